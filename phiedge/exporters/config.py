"""`config.json`, read strictly: each key is used, fixed to what phiedge supports, or known not to matter to inference.

A value that phiedge does not honour (a rope scaling, a sliding window, tied embeddings, ...) is refused here, before
any weight is read; a model that would be exported wrongly is never exported. Keys and defaults: the publisher's
`config.json` and modelling code.
"""

from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import Generation, ModelFacts
from phiedge.errors import CheckpointError, ConfigError
from phiedge.exporters.companions import (
    GENERATION_FILE,
    PREPROCESSOR_FILE,
    TokenIds,
    check_preprocessor,
    read_generation,
)
from phiedge.exporters.json_object import JsonObject, read_object
from phiedge.exporters.section import Section
from phiedge.exporters.tensors import TensorSpec, expected_tensors
from phiedge.exporters.tokenizer import TokenizerFacts
from phiedge.exporters.vision_config import DTYPES, POSITION_GRID, read_vision

MODEL_TYPE = "phi4-siglip"
# Written by the publisher's training and by transformers; nothing at inference reads them. `auto_map` names code, which
# phiedge never runs; the padding side matters to batches, of which phiedge has none.
_INERT = (
    "_name_or_path",
    "attention_dropout",
    "auto_map",
    "continuous_training",
    "embd_pdrop",
    "freeze_mm_mlp_adapter",
    "image_aspect_ratio",
    "initializer_range",
    "mm_projector_lr",
    "original_max_position_embeddings",
    "resid_pdrop",
    "tokenizer_padding_side",
    "transformers_version",
    "tune_mm_mlp_adapter",
    "unfreeze_vision_tower",
    "use_cache",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The configuration of one checkpoint; names as in `phiedge.bundle.ModelFacts`, which `facts` gives.

    `vision_layers` counts the blocks in the checkpoint, `vision_layers_used` those that run. `tokenizer` is None only
    where a `config.json` was read on its own.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    publisher_max_length: int
    vision_hidden_size: int
    vision_intermediate_size: int
    vision_heads: int
    vision_layers: int
    vision_layer_norm_eps: float
    vision_has_head: bool
    patch_size: int
    position_grid: int
    min_num_patches: int
    max_num_patches: int
    tokens: TokenIds
    generation: Generation
    tokenizer: TokenizerFacts | None

    def __post_init__(self) -> None:
        _divides("hidden_size", self.hidden_size, "num_attention_heads", self.num_heads)
        _divides("num_attention_heads", self.num_heads, "num_key_value_heads", self.num_kv_heads)
        _divides("vision_config's hidden_size", self.vision_hidden_size, "its num_attention_heads", self.vision_heads)
        _require(self.head_dim % 2 == 0, f"rotary positions need an even head size, this one is {self.head_dim}")
        _require(self.vision_layers >= 2, "one vision block is too few, as the last one is never used")
        _require(
            self.min_num_patches <= self.max_num_patches,
            f"min_num_patches {self.min_num_patches} is above max_num_patches {self.max_num_patches}",
        )
        for name, token in (("bos", self.tokens.bos), ("eos", max(self.tokens.eos)), ("pad", self.tokens.pad)):
            _require(
                token < self.vocab_size,
                f"{name}_token_id {token} is outside the vocabulary of {self.vocab_size} tokens",
            )
        if self.tokenizer is not None:
            _check_tokenizer(self.tokenizer, self.tokens, self.vocab_size)

    @property
    def head_dim(self) -> int:
        """Elements of one decoder head; `config.json` does not write it."""
        return self.hidden_size // self.num_heads

    @property
    def linear_widths(self) -> frozenset[int]:
        """The K of the decoder's linears and of the head."""
        return frozenset({self.hidden_size, self.intermediate_size})

    @property
    def vision_layers_used(self) -> int:
        """The features are taken before the last block."""
        return self.vision_layers - 1

    @staticmethod
    def from_dir(path: Path) -> "ModelConfig":
        """Read the JSON files of the checkpoint directory `path`. Raises `CheckpointError`."""
        generation, preprocessor = path / GENERATION_FILE, path / PREPROCESSOR_FILE
        return ModelConfig.from_json(
            read_object(path / "config.json"),
            generation=read_object(generation) if generation.exists() else None,
            preprocessor=read_object(preprocessor) if preprocessor.exists() else None,
            tokenizer=read_object(path / "tokenizer.json"),
        )

    @staticmethod
    def from_json(
        config: JsonObject,
        *,
        generation: JsonObject | None = None,
        preprocessor: JsonObject | None = None,
        tokenizer: JsonObject | None = None,
    ) -> "ModelConfig":
        """Read the parsed files; all but `config` may be left out. Raises `CheckpointError`."""
        section = Section(config, "config.json")
        _check_model_type(section)
        _check_supported(section)
        defaults, tokens = read_generation(generation, _read_token_ids(section))
        found = ModelConfig(
            model_type=MODEL_TYPE,
            vocab_size=section.integer("vocab_size", minimum=1),
            hidden_size=section.integer("hidden_size", minimum=1),
            num_layers=section.integer("num_hidden_layers", minimum=1),
            num_heads=section.integer("num_attention_heads", minimum=1),
            num_kv_heads=section.integer("num_key_value_heads", minimum=1),
            intermediate_size=section.integer("intermediate_size", minimum=1),
            rms_norm_eps=section.positive("rms_norm_eps"),
            rope_theta=_read_rope_theta(section),
            max_position_embeddings=section.integer("max_position_embeddings", minimum=1),
            publisher_max_length=section.integer("tokenizer_model_max_length", minimum=1),
            **read_vision(section),
            position_grid=POSITION_GRID,
            min_num_patches=section.integer("min_num_patches", minimum=1, default=256),
            max_num_patches=section.integer("max_num_patches", minimum=1, default=3600),
            tokens=tokens,
            generation=defaults,
            tokenizer=None if tokenizer is None else TokenizerFacts.from_json(tokenizer),
        )
        section.close()
        if preprocessor is not None:
            check_preprocessor(
                preprocessor,
                patch_size=found.patch_size,
                min_num_patches=found.min_num_patches,
                max_num_patches=found.max_num_patches,
            )
        return found

    def tensors(self) -> dict[str, TensorSpec]:
        """Every tensor that a checkpoint with this configuration has, by name."""
        return dict(expected_tensors(self))

    def facts(self) -> ModelFacts:
        """What a bundle keeps of this. Raises `ConfigError` where no tokenizer was read."""
        if self.tokenizer is None:
            raise ConfigError("a config.json alone has no tokenizer", remedy="read the checkpoint's directory")
        return ModelFacts(
            model_type=self.model_type,
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            rms_norm_eps=self.rms_norm_eps,
            rope_theta=self.rope_theta,
            max_position_embeddings=self.max_position_embeddings,
            publisher_max_length=self.publisher_max_length,
            vision_hidden_size=self.vision_hidden_size,
            vision_layers_used=self.vision_layers_used,
            vision_heads=self.vision_heads,
            vision_intermediate_size=self.vision_intermediate_size,
            patch_size=self.patch_size,
            position_grid=self.position_grid,
            min_num_patches=self.min_num_patches,
            max_num_patches=self.max_num_patches,
            bos_token_id=self.tokens.bos,
            eos_token_ids=self.tokens.eos,
            pad_token_id=self.tokens.pad,
            think_token_id=self.tokenizer.think_token_id,
            end_think_token_id=self.tokenizer.end_think_token_id,
            nothink_token_id=self.tokenizer.nothink_token_id,
            generation=self.generation,
        )


def _check_model_type(section: Section) -> None:
    found = section.text("model_type")
    if found != MODEL_TYPE:
        raise ConfigError(
            f"{section.where}: model_type is {found!r}, phiedge exports {MODEL_TYPE!r}",
            remedy="give a Phi-4-reasoning-vision checkpoint",
        )


def _check_supported(section: Section) -> None:
    """Everything that has one supported value."""
    section.inert(*_INERT)
    section.fixed("architectures", ["Phi4ForCausalLMV"])
    section.fixed("attention_bias", False)
    section.fixed("dtype", None, *DTYPES)
    section.fixed("torch_dtype", None, *DTYPES)
    section.fixed("hidden_act", "silu")
    section.fixed("mm_projector_type", "mlp2x_gelu")
    section.fixed("partial_rotary_factor", 1.0)
    section.fixed("quantization_config", None)
    section.fixed("rope_scaling", None)
    section.fixed("sliding_window", None)
    section.fixed("tie_word_embeddings", False)
    section.fixed("use_mm_proj", True)
    section.fixed("use_s2", False)


def _read_token_ids(section: Section) -> TokenIds:
    return TokenIds(
        bos=section.integer("bos_token_id", minimum=0),
        eos=section.integers("eos_token_id", minimum=0),
        pad=section.integer("pad_token_id", minimum=0),
    )


def _read_rope_theta(section: Section) -> float:
    """`rope_theta`, or `rope_parameters`, which transformers 5 writes in its place."""
    parameters = section.section("rope_parameters")
    if parameters is None:
        return section.positive("rope_theta")
    parameters.fixed("rope_type", "default")
    parameters.fixed("partial_rotary_factor", 1.0)
    theta = parameters.positive("rope_theta")
    parameters.close()
    section.fixed("rope_theta", theta)
    return theta


def _check_tokenizer(tokenizer: TokenizerFacts, tokens: TokenIds, vocab_size: int) -> None:
    """Refuse a tokenizer that belongs to another model."""
    remedy = "take tokenizer.json and config.json from the repository that the weights came from"
    if tokenizer.size > vocab_size:
        raise CheckpointError(
            f"wrong tokenizer: its highest id is {tokenizer.size - 1}, the model's vocabulary has {vocab_size} rows",
            remedy=remedy,
        )
    for name, theirs, ours in (
        ("bos", tokenizer.bos_token_id, (tokens.bos,)),
        ("eos", tokenizer.eos_token_id, tokens.eos),
        ("pad", tokenizer.pad_token_id, (tokens.pad,)),
    ):
        if theirs not in ours:
            raise CheckpointError(
                f"wrong tokenizer: its {name} token has the id {theirs}, config.json says {', '.join(map(str, ours))}",
                remedy=remedy,
            )


def _divides(whole_name: str, whole: int, part_name: str, part: int) -> None:
    _require(whole % part == 0, f"{whole_name} {whole} is not a multiple of {part_name} {part}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(f"config.json: {message}", remedy="take config.json from the repository of the weights")
