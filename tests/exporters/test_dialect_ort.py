"""The passes on graphs made by hand; test_graphs.py holds the whole against the publisher's numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from ort_graphs import open_graph
from phiedge.calibration.int4 import quantise_rtn
from phiedge.errors import ExportError
from phiedge.exporters.attention_op import NAMESPACE
from phiedge.exporters.dialects.ort import to_ort_decoder, to_ort_vision
from phiedge.exporters.dialects.ort.attention import use_group_query_attention, use_multi_head_attention
from phiedge.exporters.dialects.ort.contract import check_decoder, check_vision
from phiedge.exporters.dialects.ort.linears import quantise_linears, store_as_float16
from phiedge.exporters.dialects.ort.norms import fuse_norms
from phiedge.exporters.draft import GraphDraft, draft_graph
from phiedge.exporters.precision import FP32, INT4, for_tensorrt
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import FloatFill, GroupedFill

FLOAT, INT32 = ir.DataType.FLOAT, ir.DataType.INT32


def value(name: str, *shape: int | str, dtype: ir.DataType = FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def node(op_type: str, inputs: Sequence[ir.Value | None], shape: Sequence[int | str], scope: str = "m", **kwargs):
    made = ir.node(op_type, inputs, kwargs.pop("attributes", None), metadata_props={SCOPE: scope}, **kwargs)
    for output in made.outputs:
        output.shape, output.type = ir.Shape(shape), ir.TensorType(FLOAT)
    made.outputs[0].name = f"{scope}.{op_type}.out"
    return made


def draft(inputs, outputs, nodes, weights) -> GraphDraft:
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=weights, opset_imports={"": 23}, name="by_hand")
    return draft_graph(ir.Model(graph, ir_version=10), checkpoint_name=lambda name: f"model.{name}", computed={})


def linear_draft(k: int, rows: int = 6, name: str = "layers.0.o_proj.weight") -> GraphDraft:
    x, weight = value("x", 1, "t", k), value(name, rows, k)
    transpose = node("Transpose", [weight], (k, rows), attributes={"perm": [1, 0]})
    product = node("MatMul", [x, transpose.outputs[0]], (1, "t", rows))
    return draft([x], product.outputs, [transpose, product], [weight])


def norm_draft() -> GraphDraft:
    x, y, weight = value("x", 1, "t", 8), value("y", 1, "t", 8), value("norm.weight", 8)
    first = node("RMSNormalization", [x, weight], (1, "t", 8), "first", attributes={"epsilon": 1e-5, "axis": -1})
    add = node("Add", [first.outputs[0], y], (1, "t", 8))
    second = node("RMSNormalization", [add.outputs[0], weight], (1, "t", 8), "norm", attributes={"epsilon": 1e-5})
    residual = node("Add", [add.outputs[0], second.outputs[0]], (1, "t", 8), "end")
    return draft([x, y], residual.outputs, [first, add, second, residual], [weight])


def census(drafted: GraphDraft) -> Counter[str]:
    return Counter(node.op_type for node in drafted.graph)


def run(drafted: GraphDraft, weights: dict[str, np.ndarray], feeds: dict[str, np.ndarray]) -> np.ndarray:
    for name, array in weights.items():
        drafted.graph.initializers[name].const_value = ir.tensor(array)
    return open_graph(ir.serde.serialize_model(drafted.model).SerializeToString()).run(None, feeds)[0]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def test_cached_attention_becomes_group_query_attention_over_packed_rows() -> None:
    cache = (1, 2, "capacity", 16)
    qkv, key, past = value("qkv", 1, "t", 192), value("key", *cache), value("past", *cache)
    lengths = value("seqlens_k", 1, dtype=INT32), value("total", dtype=INT32)
    tables = value("cos_cache", 32, 8), value("sin_cache", 32, 8)
    attributes = {"num_heads": 8, "kv_heads": 2, "scale": 0.25}
    attention = node(
        "CachedAttention",
        [qkv, key, past, *lengths, *tables],
        cache,
        attributes=attributes,
        domain=NAMESPACE,
        num_outputs=3,
    )
    drafted = draft([qkv, key, past, *lengths], attention.outputs, [attention], tables)
    drafted.model.opset_imports[NAMESPACE] = 1
    use_group_query_attention(drafted)
    (fused,) = drafted.graph
    assert (fused.op_type, fused.domain) == ("GroupQueryAttention", "com.microsoft")
    names = [operand.name if operand is not None else None for operand in fused.inputs]
    assert names == ["qkv", None, None, "key", "past", "seqlens_k", "total", "cos_cache", "sin_cache"]
    assert {name: attribute.value for name, attribute in fused.attributes.items()} == {
        "num_heads": 8,
        "kv_num_heads": 2,
        "scale": 0.25,
        "do_rotary": 1,
        "rotary_interleaved": 0,
    }
    assert drafted.model.opset_imports == {"": 23, "com.microsoft": 1}
    assert list(drafted.graph.outputs) == list(fused.outputs)


def test_plain_attention_becomes_multi_head_attention_and_any_other_is_left_alone() -> None:
    operands = [value(name, 1, "n", 72) for name in "qkv"]
    mask = value("mask", "n", "n")
    attributes = {"q_num_heads": 4, "kv_num_heads": 4, "scale": 0.2}
    plain = node("Attention", operands, (1, "n", 72), "plain", attributes=attributes)
    masked = node("Attention", [*operands, mask], (1, "n", 72), "masked", attributes=attributes)
    drafted = draft([*operands, mask], [plain.outputs[0], masked.outputs[0]], [plain, masked], [])
    use_multi_head_attention(drafted)
    assert census(drafted) == {"MultiHeadAttention": 1, "Attention": 1}
    fused = drafted.graph[0]
    assert fused.attributes["num_heads"].as_int() == 4
    with pytest.raises(ExportError, match="the by_hand graph has a Attention"):
        check_vision(drafted, FP32)


def test_an_addition_before_a_norm_is_fused_and_its_sum_still_feeds_the_residual() -> None:
    weight, x, y = normal(8), normal(1, 3, 8), normal(1, 3, 8)
    expected = run(norm_draft(), {"norm.weight": weight}, {"x": x, "y": y})
    fused = norm_draft()
    fuse_norms(fused)
    assert census(fused) == {"SimplifiedLayerNormalization": 1, "SkipSimplifiedLayerNormalization": 1, "Add": 1}
    actual = run(fused, {"norm.weight": weight}, {"x": x, "y": y})
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_linear_becomes_matmul_nbits_with_its_accuracy_level_on_the_node() -> None:
    drafted = linear_draft(128)
    quantise_linears(drafted, INT4)
    (product,) = drafted.graph
    assert product.op_type == "MatMulNBits"
    assert {name: attribute.as_int() for name, attribute in product.attributes.items()} == {
        "K": 128,
        "N": 6,
        "bits": 4,
        "block_size": 32,
        "accuracy_level": 4,
    }
    fill = drafted.fills["layers.0.o_proj.weight"]
    assert isinstance(fill, GroupedFill)
    assert fill.source == "model.layers.0.o_proj.weight"
    assert {slot.name: slot.shape for slot in fill.slots} == {
        "layers.0.o_proj.weight.int4": (6, 4, 16),
        "layers.0.o_proj.weight.scales": (6, 4),
    }
    assert set(drafted.graph.initializers) == {slot.name for slot in fill.slots}


def test_a_plan_for_a_gpu_forbids_the_cpu_to_round_activations() -> None:
    drafted = linear_draft(128)
    quantise_linears(drafted, for_tensorrt(INT4))
    assert drafted.graph[-1].attributes["accuracy_level"].as_int() == 1


def test_codes_with_a_sign_are_turned_and_scales_cast_before_the_product() -> None:
    drafted = linear_draft(128)
    quantise_linears(drafted, replace(for_tensorrt(INT4), activations="float32"))
    assert [node.op_type for node in drafted.graph] == ["Cast", "BitwiseXor", "MatMulNBits"]
    fill = drafted.fills["layers.0.o_proj.weight"]
    assert [slot.key for slot in fill.slots] == [
        "layers.0.o_proj.weight.int4 INT4",
        "layers.0.o_proj.weight.scales FLOAT16",
    ]
    weight = quantise_rtn(np.random.default_rng(0).standard_normal((6, 128)).astype(np.float32), 32)
    codes, scales = fill.pack(weight)
    np.testing.assert_array_equal(codes ^ 0x88, weight.packed)
    np.testing.assert_array_equal(scales, weight.scales)


def test_the_head_has_eight_bits() -> None:
    drafted = linear_draft(64, name="lm_head.weight")
    quantise_linears(drafted, INT4)
    assert drafted.graph[0].attributes["bits"].as_int() == 8
    assert drafted.fills["lm_head.weight"].slots[0].shape == (6, 2, 32)


@pytest.mark.parametrize(
    ("k", "remedy"),
    [
        (448, "use --precision fp16, or a plan with a group size of 64 or 32"),
        (96, "use --precision fp16, or a plan with a group size of 32"),
        (72, "use --precision fp16"),
    ],
)
def test_a_ragged_group_is_refused_with_the_tensor_the_numbers_and_the_remedy(k, remedy) -> None:
    with pytest.raises(ExportError) as caught:
        quantise_linears(linear_draft(k), replace(INT4, group_size=128))
    assert caught.value.message == (
        f"model.layers.0.o_proj.weight has K = {k}, which is not a multiple of the group size 128"
    )
    assert caught.value.remedy == remedy


def test_a_product_of_two_activations_is_not_a_linear() -> None:
    x, y = value("x", 4, 64), value("y", 64, 4)
    product = node("MatMul", [x, y], (4, 4))
    drafted = draft([x, y], product.outputs, [product], [])
    quantise_linears(drafted, INT4)
    assert census(drafted) == {"MatMul": 1}
    with pytest.raises(ExportError, match=r"the by_hand graph has a MatMul .* that no pass of the dialect took"):
        check_decoder(drafted, INT4)
    check_decoder(drafted, FP32)


def test_weights_are_stored_as_float16_and_computed_in_float32() -> None:
    x, weight, bias = value("x", "n", 8), value("fc.weight", 4, 8), value("fc.bias", 4)
    gemm = node("Gemm", [x, weight, bias], ("n", 4), "fc", attributes={"transB": 1})
    drafted = draft([x], gemm.outputs, [gemm], [weight, bias])
    store_as_float16(drafted)
    check_vision(drafted, FP32)
    assert census(drafted) == {"Cast": 2, "Gemm": 1}
    stored = {name: initializer.dtype for name, initializer in drafted.graph.initializers.items()}
    assert stored == {"fc.weight.float16": ir.DataType.FLOAT16, "fc.bias.float16": ir.DataType.FLOAT16}
    fill = drafted.fills["fc.weight"]
    assert isinstance(fill, FloatFill)
    assert fill.source == "model.fc.weight"
    halves, rows = normal(4, 8).astype(np.float16), normal(3, 8)
    actual = run(drafted, {"fc.weight.float16": halves, "fc.bias.float16": np.zeros(4, np.float16)}, {"x": rows})
    np.testing.assert_allclose(actual, rows @ halves.astype(np.float32).T, rtol=1e-5, atol=1e-5)


def test_what_no_pass_takes_is_an_error_that_names_the_node() -> None:
    for to_ort in (to_ort_vision, to_ort_decoder):
        x = value("x", "n", 8)
        strange = node("Erf", [x], ("n", 8), name="the_strange_one")
        with pytest.raises(ExportError, match=r"the by_hand graph has a Erf \(the_strange_one\)"):
            to_ort(draft([x], strange.outputs, [strange], []), FP32)
