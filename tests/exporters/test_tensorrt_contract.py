"""What the contract of the tensorrt dialect refuses, on graphs that differ from a good one in one thing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from ort_graphs import open_graph
from phiedge.calibration.int4 import quantise_rtn
from phiedge.errors import ExportError
from phiedge.exporters.dialects.rewrite import nodes_of
from phiedge.exporters.dialects.tensorrt import CONSERVATIVE, MODERN, to_tensorrt_decoder, to_tensorrt_vision
from phiedge.exporters.dialects.tensorrt.contract import check_decoder, check_vision
from phiedge.exporters.dialects.tensorrt.packing import pack_int4, pack_int4_float16
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.graphs import draft_decoder, draft_vision
from phiedge.exporters.precision import INT4, for_tensorrt

PLAN = for_tensorrt(replace(INT4, group_size=64))


@pytest.fixture(scope="module")
def good_decoders(oracle_checkpoint) -> dict[str, ir.Model]:
    traced = draft_decoder(oracle_checkpoint.config, PLAN, max_context=16)
    drafts = {form.name: traced.copy() for form in (MODERN, CONSERVATIVE)}
    for form in (MODERN, CONSERVATIVE):
        to_tensorrt_decoder(drafts[form.name], PLAN, form)
    return {name: draft.model for name, draft in drafts.items()}


@pytest.fixture
def decoder(good_decoders) -> GraphDraft:
    """One to spoil."""
    return GraphDraft(model=good_decoders["tensorrt"].clone(), fills={})


@pytest.fixture
def conservative_decoder(good_decoders) -> GraphDraft:
    """One to spoil."""
    return GraphDraft(model=good_decoders["tensorrt-10.3"].clone(), fills={})


@pytest.fixture
def vision(oracle_checkpoint) -> GraphDraft:
    draft = draft_vision(oracle_checkpoint.config, PLAN)
    to_tensorrt_vision(draft, PLAN)
    return draft


def first(draft: GraphDraft, op_type: str) -> ir.Node:
    return nodes_of(draft, op_type)[0]


def int64(name: str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))


def ignore_lengths(draft: GraphDraft) -> None:
    node = first(draft, "Attention")
    node.resize_inputs(7)
    node.replace_input_with(6, int64("lengths"))


def drop_the_mask(draft: GraphDraft) -> None:
    first(draft, "Attention").replace_input_with(3, None)


def be_causal(draft: GraphDraft) -> None:
    first(draft, "Attention").attributes["is_causal"] = ir.AttrInt64("is_causal", 1)


def tell_a_precision(draft: GraphDraft) -> None:
    first(draft, "Attention").attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", 1)


def attend_to_the_past(draft: GraphDraft) -> None:
    past = next(value for value in draft.graph.inputs if value.name == "past.0.key")
    first(draft, "Attention").replace_input_with(1, past)


def write_in_circles(draft: GraphDraft) -> None:
    first(draft, "TensorScatter").attributes["mode"] = ir.AttrString("mode", "circular")


def write_into_another_layer(draft: GraphDraft) -> None:
    past = next(value for value in draft.graph.inputs if value.name == "past.1.key")
    first(draft, "TensorScatter").replace_input_with(0, past)


def leave_the_capacity_open(draft: GraphDraft) -> None:
    past = next(value for value in draft.graph.inputs if value.name == "past.0.key")
    past.shape = ir.Shape([1, 2, "capacity", 16])


def give_a_cache_back_as_it_came(draft: GraphDraft) -> None:
    *_, past = draft.graph.inputs
    copy = ir.node("Cast", [past], {"to": ir.DataType.FLOAT16.value})
    draft.graph.append(copy)
    copy.outputs[0].name = "present.2.value"
    first(draft, "Attention").replace_input_with(0, past)
    draft.graph.outputs[-1] = copy.outputs[0]


def have_a_zero_point(draft: GraphDraft) -> None:
    node = first(draft, "DequantizeLinear")
    node.resize_inputs(3)
    node.replace_input_with(2, node.inputs[0])


def dequantise_in_blocks_of_48(draft: GraphDraft) -> None:
    first(draft, "DequantizeLinear").attributes["block_size"] = ir.AttrInt64("block_size", 48)


def use_an_operator_of_onnx_runtime(draft: GraphDraft) -> None:
    first(draft, "RMSNormalization").domain = "com.microsoft"


def compute_in_bfloat16(draft: GraphDraft) -> None:
    node = first(draft, "RMSNormalization")
    assert node.inputs[0] is not None
    node.inputs[0].type = ir.TensorType(ir.DataType.BFLOAT16)  # a new one: copies of a graph share the old


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (ignore_lengths, r"Attention .* with lengths, a past or is_causal"),
        (be_causal, r"Attention .* with lengths, a past or is_causal"),
        (tell_a_precision, r"Attention .* with softmax_precision, which TensorRT refuses"),
        (drop_the_mask, r"Attention .* without a mask of the type of the cache"),
        (attend_to_the_past, r"Attention .* which reads past.0.key in place of a cache that the graph has written"),
        (write_in_circles, r"TensorScatter .* from past.0.key to present.0.key, circular along axis 2"),
        (write_into_another_layer, r"TensorScatter .* from past.1.key to present.0.key"),
        (leave_the_capacity_open, r"TensorScatter .* from past.0.key to present.0.key"),
        (give_a_cache_back_as_it_came, r"TensorScatter .* from past.2.value to |present.2.value is not written"),
        (have_a_zero_point, r"DequantizeLinear .* with 3 operands and blocks of 64"),
        (dequantise_in_blocks_of_48, r"DequantizeLinear .* with 2 operands and blocks of 48"),
        (use_an_operator_of_onnx_runtime, r"RMSNormalization .* which no pass of the dialect took"),
        (compute_in_bfloat16, r"RMSNormalization .* of BFLOAT16, which was not seen to work"),
    ],
)
def test_what_was_not_seen_to_work_is_refused(
    decoder: GraphDraft, spoil: Callable[[GraphDraft], None], message: str
) -> None:
    check_decoder(decoder, MODERN)
    spoil(decoder)
    with pytest.raises(ExportError, match=message):
        check_decoder(decoder, MODERN)


def test_patches_see_each_other_without_a_mask(vision: GraphDraft) -> None:
    check_vision(vision, MODERN)
    node = first(vision, "Attention")
    node.resize_inputs(4)
    node.replace_input_with(3, node.inputs[0])
    with pytest.raises(ExportError, match=r"Attention .* has 4 operands, wanted are 3"):
        check_vision(vision, MODERN)


def weigh_unmasked_scores(draft: GraphDraft) -> None:
    softmax = first(draft, "Softmax")
    add = softmax.inputs[0].producer()
    softmax.replace_input_with(0, add.inputs[0])


def weigh_in_float16(draft: GraphDraft) -> None:
    first(draft, "Softmax").inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)


def turn_a_cache_around(draft: GraphDraft) -> None:
    past = next(value for value in draft.graph.inputs if value.name == "past.0.key")
    ((product, _),) = past.uses()
    turned = ir.node("Transpose", [past], {"perm": [0, 1, 3, 2]})
    draft.graph.insert_before(product, turned)
    product.replace_input_with(0, turned.outputs[0])


def give_the_whole_cache(draft: GraphDraft) -> None:
    draft.graph.outputs[1].shape = ir.Shape([1, 2, 16, 16])


def norm_in_float16(draft: GraphDraft) -> None:
    first(draft, "ReduceMean").inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)


def use_an_operator_that_is_too_new(draft: GraphDraft) -> None:
    first(draft, "Softmax").op_type = "RMSNormalization"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (weigh_unmasked_scores, r"Softmax .* of scores that have no mask"),
        (weigh_in_float16, r"Softmax .* of FLOAT16, which was not seen to work"),
        (turn_a_cache_around, r"past.0.key .* is operand 0 of Transpose, wanted is operand 0 of one MatMul"),
        (give_the_whole_cache, r"present.0.key .* is not the chunk's new rows"),
        (leave_the_capacity_open, r"past.0.key .* wanted is operand 0 of one MatMul"),
        (norm_in_float16, r"ReduceMean .* of FLOAT16, which was not seen to work"),
        (use_an_operator_that_is_too_new, r"RMSNormalization .* which no pass of the dialect took"),
        (have_a_zero_point, r"DequantizeLinear .* with 3 operands and blocks of 64"),
    ],
)
def test_what_the_conservative_form_has_not_is_refused(
    conservative_decoder: GraphDraft, spoil: Callable[[GraphDraft], None], message: str
) -> None:
    check_decoder(conservative_decoder, CONSERVATIVE)
    spoil(conservative_decoder)
    with pytest.raises(ExportError, match=message):
        check_decoder(conservative_decoder, CONSERVATIVE)


def test_a_form_refuses_the_other_ones_graphs(
    decoder: GraphDraft, conservative_decoder: GraphDraft, vision: GraphDraft
) -> None:
    for draft, check, form in (
        (decoder, check_decoder, CONSERVATIVE),
        (conservative_decoder, check_decoder, MODERN),
        (vision, check_vision, CONSERVATIVE),
    ):
        with pytest.raises(ExportError, match="which no pass of the dialect took"):
            check(draft, form)


def test_norms_that_are_not_in_float32_are_not_written_out(oracle_checkpoint) -> None:
    plan = replace(PLAN, norms="float16")
    draft = draft_decoder(oracle_checkpoint.config, plan, max_context=16)
    with pytest.raises(ExportError, match="its squares need not fit"):
        to_tensorrt_decoder(draft, plan, CONSERVATIVE)


@pytest.mark.parametrize(("pack", "dtype"), [(pack_int4, np.float32), (pack_int4_float16, np.float16)])
def test_packed_codes_dequantise_to_the_weights_that_they_stand_for(pack, dtype) -> None:
    weight = np.random.default_rng(3).standard_normal((6, 128)).astype(np.float32)
    quantised = quantise_rtn(weight, 32)
    assert {-8, 7} <= set(quantised.codes.reshape(-1).tolist())
    codes, scales = pack(quantised)
    values = [
        ir.Value(
            name="codes",
            const_value=ir.PackedTensor(codes.reshape(-1), ir.DataType.INT4, shape=ir.Shape(weight.shape)),
            shape=ir.Shape(weight.shape),
            type=ir.TensorType(ir.DataType.INT4),
        ),
        ir.Value(name="scales", const_value=ir.tensor(scales)),
    ]
    node = ir.node("DequantizeLinear", values, {"axis": 1, "block_size": 32})
    node.outputs[0].name = "weight"
    node.outputs[0].dtype = ir.DataType.from_numpy(np.dtype(dtype))
    node.outputs[0].shape = ir.Shape(weight.shape)
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=values, opset_imports={"": 24}, name="one")
    (found,) = open_graph(ir.serde.serialize_model(ir.Model(graph, ir_version=11)).SerializeToString()).run(None, {})
    assert scales.dtype == found.dtype == dtype
    np.testing.assert_array_equal(found, quantised.dequantise().astype(dtype))
