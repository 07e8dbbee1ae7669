"""An export that loses the eyes of a model, and one that loses its weights, both with exit code 0. Needs no GPU.

pip install 'tensorrt-edgellm[export]==0.11.0'
python edge_llm_skipped_tensors.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

HIDDEN, LAYERS, VOCABULARY = 256, 2, 64
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 1,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": HIDDEN,
    "max_position_embeddings": 256,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
}
LINEARS = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        eyes = {"model.vision_tower.patch_embedding.weight": (64, 768), "model.mm_projector.0.weight": (HIDDEN, 64)}
        seeing = decoder() | {name: torch.randn(shape).half() for name, shape in eyes.items()}
        export(work / "seeing", seeing, CONFIG | {"model_type": "phi4-siglip"})
        packed = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
        export(work / "compressed", compressed(), CONFIG | {"quantization_config": packed})


def decoder() -> dict[str, torch.Tensor]:
    names = [f"model.layers.{layer}.{linear}.weight" for layer in range(LAYERS) for linear in LINEARS]
    tensors = {name: 0.1 * torch.randn(HIDDEN, HIDDEN).half() for name in names}
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.ones(HIDDEN).half()
    tensors["model.norm.weight"] = torch.ones(HIDDEN).half()
    for name in ("model.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = torch.randn(VOCABULARY, HIDDEN).half()
    return tensors


def compressed() -> dict[str, torch.Tensor]:
    """The linears of the layers as int4 in groups of 128, as compressed-tensors packs them."""
    tensors = decoder()
    for name in [name for name in tensors if "_proj." in name]:
        rows, columns = tensors.pop(name).shape
        base = name.removesuffix(".weight")
        tensors[f"{base}.weight_packed"] = torch.randint(-(2**31), 2**31, (rows, columns // 8), dtype=torch.int32)
        tensors[f"{base}.weight_scale"] = torch.rand(rows, columns // 128).half()
        tensors[f"{base}.weight_shape"] = torch.tensor([rows, columns])
    return tensors


def export(path: Path, tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    path.mkdir()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(config))
    Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, "t0")).save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (path / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    program = "from tensorrt_edgellm.scripts.export import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", program, str(path), str(path / "out")], capture_output=True, text=True
    )
    lines = (finished.stdout + finished.stderr).splitlines()
    marks = ("tensors, skipped", "visual  ", "Export complete", "ERROR", "WARNING   tensorrt_edgellm")
    print(f"{path.name}: {len(tensors)} tensors, exit code {finished.returncode}")
    for line in lines:
        if any(mark in line for mark in marks) and "onnx.export" not in line:
            print("   ", line.replace(str(path), "CHECKPOINT")[:150])
    print("    written:", ", ".join(sorted(one.name for one in (path / "out").iterdir())))


if __name__ == "__main__":
    main()
