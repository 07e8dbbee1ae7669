"""A bundle in FP8 with one small layer, written by hand: graphs of nothing but weights, stored as an export does."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from phiedge.bundle import Bundle, BundleWriter, Manifest

KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.float8_e4m3fn): TensorProto.FLOAT8E4M3FN,
}
LINEARS = {
    "self_attn.qkv_proj": (16, 8),
    "self_attn.o_proj": (8, 8),
    "mlp.gate_up_proj": (16, 8),
    "mlp.down_proj": (8, 8),
}
KV_CACHE = {"float8": {"key": [0.25], "value": [0.5]}}


def float8_bundle(
    destination: Path, manifest: Manifest, sm: str = "8.9", *, tensor_scales: bool = False
) -> tuple[Bundle, dict[str, np.ndarray]]:
    """The bundle, and what its linears stand for by the checkpoint's names."""
    random = np.random.default_rng(1)
    weights: dict[str, np.ndarray] = {}
    held: dict[str, np.ndarray] = {}
    meant: dict[str, np.ndarray] = {}
    for name, shape in LINEARS.items():
        full = f"model.layers.0.{name}.weight"
        codes = random.normal(size=shape).astype(ml_dtypes.float8_e4m3fn)
        scales = random.uniform(0.01, 1, (shape[0], 1)).astype(np.float16)
        if tensor_scales:
            scales[:] = scales[0]
        weights |= {f"{full}.float8": codes, f"{full}.scales": scales}
        held[f"constant.{full}.input_scale"] = np.float32(0.125 * (1 + len(held)))
        meant[full] = codes.astype(np.float32) * scales.astype(np.float32)
    for name in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
        weights[f"model.{name}.weight"] = random.normal(size=8).astype(np.float32)
    weights["lm_head.weight"] = random.normal(size=(16, 8)).astype(np.float16)
    tower = {"tower.encoder.layers.0.mlp.fc1.weight.float16": random.normal(size=(8, 4)).astype(np.float16)}
    with BundleWriter(destination) as writer:
        _write_graph(writer.path / "decoder.ort.onnx", weights, held)
        _write_graph(writer.path / "vision.ort.onnx", tower, {})
        (writer.path / "embed_tokens.bin").write_bytes(random.normal(size=(16, 8)).astype("<f4").tobytes())
        (writer.path / "position_table.bin").write_bytes(bytes(4 * 4 * 4))
        added = [{"id": 6, "content": "<|dummy_0|>", "special": True}]
        (writer.path / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": {"vocab": {}}}))
        (writer.path / "chat_template.jinja").write_text("{{ messages }}")
        (writer.path / "quantization.json").write_text(json.dumps({"kv_cache": KV_CACHE}))
        precision = replace(
            manifest.precision, name="fp8", decoder="float8", lm_head="float16", group_size=None, codes=None
        )
        target = {"name": "rtx", "sm": sm}
        bundle = writer.commit(replace(manifest, precision=precision, target=target, quantization="quantization.json"))
    return bundle, meant


def _write_graph(path: Path, weights: Mapping[str, np.ndarray], held: Mapping[str, np.ndarray]) -> None:
    data, initializers = b"", []
    name_of_data = f"{path.name.partition('.')[0]}.data"
    for name, array in weights.items():
        tensor = TensorProto(name=name, data_type=KINDS[array.dtype], dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": name_of_data, "offset": len(data), "length": array.nbytes}.items():
            tensor.external_data.add(key=key, value=str(value))
        initializers.append(tensor)
        data += array.tobytes()
    for name, array in held.items():
        initializers.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    node = helper.make_node("LayerNormalization", ["x", "w"], ["y"], epsilon=1e-6)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([node], "graph", ports[:1], ports[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    path.write_bytes(model.SerializeToString())
    path.with_name(name_of_data).write_bytes(data)
