"""An AWQ checkpoint with fused projections becomes a graph with other weights, with exit code 0. Needs no GPU.

pip install 'tensorrt-edgellm[export]==0.11.0'
python edge_llm_fused_awq.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

HIDDEN, INNER, VOCABULARY, GROUP = 256, 256, 64, 128
CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "max_position_embeddings": 256,
    "model_type": "phi3",
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 4,
    "original_max_position_embeddings": 256,
    "pad_token_id": 0,
    "quantization_config": {
        "bits": 4,
        "group_size": GROUP,
        "modules_to_not_convert": ["lm_head"],
        "quant_method": "awq",
        "version": "gemm",
        "zero_point": True,
    },
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
}
# Outputs of each linear, as Phi-3's own layout has them.
FUSED = {"self_attn.qkv_proj": 3 * HIDDEN, "self_attn.o_proj": HIDDEN, "mlp.gate_up_proj": 2 * INNER}
FUSED["mlp.down_proj"] = HIDDEN


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = Path(temporary)
        write(checkpoint)
        program = "from tensorrt_edgellm.scripts.export import main; main()"
        finished = subprocess.run(
            [sys.executable, "-c", program, str(checkpoint), str(checkpoint / "out")], capture_output=True, text=True
        )
        said = (finished.stdout + finished.stderr).splitlines()
        print(f"exit code {finished.returncode}; {'Export complete' in said and 'Export complete'}")
        for line in said:
            if "loader:" in line:
                print("   ", line.partition("loader: ")[2].replace(str(checkpoint), "CHECKPOINT"))
        show(checkpoint / "out" / "llm" / "model.onnx")


def write(path: Path) -> None:
    tensors = {}
    for name, outputs in FUSED.items():
        base = f"model.layers.0.{name}"
        tensors[f"{base}.qweight"] = torch.randint(-(2**31), 2**31, (HIDDEN, outputs // 8), dtype=torch.int32)
        tensors[f"{base}.qzeros"] = torch.full((HIDDEN // GROUP, outputs // 8), -0x77777778, dtype=torch.int32)
        tensors[f"{base}.scales"] = 0.01 + 0.01 * torch.rand(HIDDEN // GROUP, outputs).half()
    for name in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
        tensors[f"model.{name}.weight"] = torch.ones(HIDDEN).half()
    for name in ("model.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = torch.randn(VOCABULARY, HIDDEN).half()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(CONFIG))
    Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, "t0")).save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (path / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def show(path: Path) -> None:
    """Each quantised product of the graph: what it says of its weight, and what its weight is."""
    graph = onnx.load(path).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Int4GroupwiseGemmPluginV2":
            said = {one.name: one.i for one in node.attribute}
            _, codes, scales = node.input
            n, k = said["gemm_n"], said["gemm_k"]
            right = (-(-n // 128) * -(-k // 64) * 8, 512), (k // GROUP, n)
            wrong = [] if (arrays[codes].shape, arrays[scales].shape) == right else [f"should be {right}"]
            if not arrays[scales].any() or len(set(arrays[codes].reshape(-1).tolist())) == 1:
                wrong.append("never filled")
            name = codes.removesuffix(".qweight").rpartition("layers.0.")[2]
            told = f"codes {arrays[codes].shape}, scales {arrays[scales].shape}"
            print(f"    {name}: n={n} k={k}, {told}{': ' if wrong else ''}{', '.join(wrong)}")


if __name__ == "__main__":
    main()
