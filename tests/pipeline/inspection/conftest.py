"""A bundle with graphs made by hand: two dialects that share an int4 layer, and one layer of each alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from phiedge.bundle import Bundle, BundleWriter, Dialect, Manifest

# Where the weights of both decoders lie, as name: (type, shape, offset, length)
PLACES = {
    "model.layers.0.mlp.down_proj.weight.int4": (TensorProto.UINT8, [8, 1, 16], 0, 128),
    "model.layers.0.mlp.down_proj.weight.scales": (TensorProto.FLOAT16, [8, 1], 128, 16),
    "lm_head.weight": (TensorProto.FLOAT16, [16, 8], 144, 256),
    "model.norm.weight": (TensorProto.FLOAT, [8], 400, 32),
}
DATA_BYTES = 448


def weight(name: str, file: str, **changes: Any) -> TensorProto:
    data_type, dims, offset, length = {**dict(zip("tdol", PLACES[name], strict=True)), **changes}.values()
    tensor = TensorProto(name=name, data_type=data_type, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", file), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def port(name: str, *shape: int | str, kind: int = TensorProto.FLOAT16) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(name: str, nodes: Any, inputs: Any, outputs: Any, weights: Any) -> bytes:
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11).SerializeToString()


def head() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Transpose", ["lm_head.weight"], ["turned"]),
        helper.make_node("Mul", ["hidden", "model.norm.weight"], ["normed"]),
        helper.make_node("MatMul", ["normed", "turned"], ["logits"]),
    ]


def ort_decoder() -> bytes:
    codes, scales, *_ = PLACES
    nodes = [
        helper.make_node("BitwiseXor", [codes, "mask"], ["turned_codes"]),
        helper.make_node("Cast", [scales], ["wide_scales"], to=1),
        helper.make_node(
            "MatMulNBits",
            ["inputs_embeds", "turned_codes", "wide_scales"],
            ["hidden"],
            domain="com.microsoft",
            K=32,
            N=8,
            bits=4,
            block_size=32,
        ),
        *head(),
    ]
    mask = helper.make_tensor("mask", TensorProto.UINT8, [], b"\x88", raw=True)
    inputs = [port("inputs_embeds", 1, "t", 32), port("past.0.key", 1, 2, "capacity", 4)]
    weights = [mask, *(weight(name, "decoder.data") for name in PLACES)]
    return model("decoder", nodes, inputs, [port("logits", 1, 1, 16)], weights)


def tensorrt_decoder() -> bytes:
    codes, scales, *others = PLACES
    nodes = [
        helper.make_node("DequantizeLinear", [codes, scales], ["matrix"], axis=1, block_size=32),
        helper.make_node("Transpose", ["matrix"], ["turned_matrix"]),
        helper.make_node("MatMul", ["inputs_embeds", "turned_matrix"], ["hidden"]),
        helper.make_node("MatMul", ["inputs_embeds", "inputs_embeds"], ["scores"]),
        *head(),
    ]
    int4 = weight(codes, "decoder.data", t=TensorProto.INT4, d=[8, 32])
    inputs = [port("inputs_embeds", 1, "t", 32), port("past.0.key", 1, 2, 64, 4), port("past.0.value", 1, 2, 64, 4)]
    weights = [int4, *(weight(name, "decoder.data") for name in (scales, *others))]
    return model("decoder", nodes, inputs, [port("logits", 1, 1, 16)], weights)


def vision() -> bytes:
    nodes = [helper.make_node("Gemm", ["patches", "mm_projector.0.weight", ""], ["features"])]
    matrix = TensorProto(name="mm_projector.0.weight", data_type=TensorProto.FLOAT, dims=[4, 4])
    matrix.data_location = TensorProto.EXTERNAL
    matrix.external_data.add(key="location", value="vision.data")
    return model("vision", nodes, [port("patches", "n", 4)], [port("features", "n", 4)], [matrix])


REPORT = {
    "precision": "int4",
    "notes": ["a note"],
    "tensors": [{"name": "model.layers.0.mlp.down_proj.weight", "relative_l2": 0.125, "max_abs_error": 0.5, "bits": 4}],
}


@pytest.fixture
def two_dialects(tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Any) -> Bundle:
    dialects = {
        name: Dialect(
            vision=f"vision.{name}.onnx",
            decoder=f"decoder.{name}.onnx",
            opset=24,
            max_context=64,
            activations="float16",
        )
        for name in ("ort", "tensorrt")
    }
    with BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
        (writer.path / "vision.data").write_bytes(bytes(64))
        (writer.path / "decoder.data").write_bytes(bytes(DATA_BYTES))
        for name, decoder in (("ort", ort_decoder()), ("tensorrt", tensorrt_decoder())):
            (writer.path / f"vision.{name}.onnx").write_bytes(vision())
            (writer.path / f"decoder.{name}.onnx").write_bytes(decoder)
        (writer.path / "quantization.json").write_text(json.dumps(REPORT))
        return writer.commit(replace(plain_manifest, dialects=dialects, quantization="quantization.json"))
