"""Everything of the reference checkpoint but its weights: configuration, tokenizer, chat template, defaults."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from phiedge.reference.network import Shape
from phiedge.reference.questions import ask
from phiedge.reference.scenes import LABELS, draw_scene

MIN_NUM_PATCHES, MAX_NUM_PATCHES, MAX_POSITIONS, PUBLISHER_MAX_LENGTH = 64, 256, 4096, 2048
SPECIAL = ("<|dummy_0|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|dummy_84|>", "<|dummy_85|>")
THINK = ("<think>", "</think>")
SYSTEM = "You see kiosk screens and shelves. Reply <think> steps </think> answer, or <|dummy_84|> answer."
CHAT_TEMPLATE = (
    f"<|im_start|>system<|im_sep|>{SYSTEM}<|im_end|>\n"
    """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>' }}
{% elif message['role'] == 'assistant' %}
<|im_start|>assistant<|im_sep|>
{% generation %}
{{ message['content'] + '<|im_end|>' }}
{% endgeneration %}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant<|im_sep|>' }}
{% endif %}"""
)
_EVERYDAY = """Please tell me what you see in this picture. Which button do I press to pay with a card? How much does
the bottle cost? I want to go back to the menu and start again. Is there anything else on the screen? Where should the
robot move next? Look at the shelf and count the cans, then compare the prices. The box is on the left, the ball is on
the right, above the bottle and below the can. Thank you. You are an assistant that helps people at kiosks. Can you
read the text on the ticket? Take your time and think step by step. system user assistant"""


def train_tokenizer(shape: Shape, scenes: int = 1500) -> Tokenizer:
    """A byte-level BPE over the questions' language; the family's special tokens, with their strip flags, end it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    size = shape.vocab - len(SPECIAL) - len(THINK)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(_corpus(scenes), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(t, lstrip=True, rstrip=True, normalized=False, special=True) for t in SPECIAL]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in THINK])
    return tokenizer


def _corpus(scenes: int) -> Iterator[str]:
    for seed in range(scenes):
        rng = np.random.default_rng([7, seed])
        for question in ask(draw_scene(seed), rng, 8):
            yield "\n" + question.prompt
            yield question.answer
            if question.thinking:
                yield question.thinking
    for _ in range(40):
        yield from _EVERYDAY.split(". ")
        yield SYSTEM
        yield from LABELS
        yield from (f"{number:02d}" for number in range(100))
        yield from (str(number) for number in range(100))


def write_blueprint(out: Path, shape: Shape, tokenizer: Tokenizer) -> None:
    """Everything but the weights, in the publisher's file names and keys."""
    vocabulary = tokenizer.get_vocab()
    ids = {token: vocabulary[token] for token in (*SPECIAL, *THINK)}
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy_85|>"}
    _write(out / "special_tokens_map.json", special)
    _write(out / "config.json", _config(shape, ids))
    _write(
        out / "generation_config.json",
        {
            "bos_token_id": ids["<|endoftext|>"],
            "do_sample": True,
            "eos_token_id": [ids["<|im_end|>"]],
            "pad_token_id": ids["<|dummy_85|>"],
            "temperature": 0.8,
            "top_p": 0.95,
        },
    )
    _write(
        out / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Siglip2ImageProcessorNoUpscale",
            "image_std": [0.5, 0.5, 0.5],
            "max_num_patches": MAX_NUM_PATCHES,
            "min_num_patches": MIN_NUM_PATCHES,
            "patch_size": 16,
            "processor_class": "Phi4VisionRProcessor",
            "rescale_factor": 1 / 255,
            "resample": 2,
        },
    )
    added = {str(ids[t]): _flags(t, strip=True) for t in SPECIAL} | {str(ids[t]): _flags(t, strip=False) for t in THINK}
    _write(
        out / "tokenizer_config.json",
        {
            "added_tokens_decoder": added,
            "clean_up_tokenization_spaces": False,
            "model_max_length": MAX_POSITIONS,
            "padding_side": "right",
        }
        | {"tokenizer_class": "PreTrainedTokenizerFast"}
        | special,
    )


def _config(shape: Shape, ids: dict[str, int]) -> dict[str, object]:
    return {
        "architectures": ["Phi4ForCausalLMV"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        "dtype": "bfloat16",
        "embd_pdrop": 0.0,
        "eos_token_id": ids["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "image_aspect_ratio": "square",
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_num_patches": MAX_NUM_PATCHES,
        "max_position_embeddings": MAX_POSITIONS,
        "min_num_patches": MIN_NUM_PATCHES,
        "mm_hidden_size": shape.vision_hidden,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "google/siglip2-so400m-patch16-naflex",
        "model_type": "phi4-siglip",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "original_max_position_embeddings": MAX_POSITIONS,
        "pad_token_id": ids["<|dummy_85|>"],
        "partial_rotary_factor": 1.0,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": int(shape.rope_theta),
        "sliding_window": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": PUBLISHER_MAX_LENGTH,
        "tokenizer_padding_side": "right",
        "unfreeze_vision_tower": True,
        "use_cache": False,
        "use_mm_proj": True,
        "use_s2": False,
        "vision_config": {
            "hidden_size": shape.vision_hidden,
            "intermediate_size": shape.vision_intermediate,
            "model_type": "siglip2_vision_model",
            "num_attention_heads": shape.vision_heads,
            "num_hidden_layers": shape.vision_layers,
        },
        "vocab_size": shape.vocab,
    }


def _flags(token: str, *, strip: bool) -> dict[str, object]:
    return {
        "content": token,
        "lstrip": strip,
        "normalized": False,
        "rstrip": strip,
        "single_word": False,
        "special": strip,
    }


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
