"""Linears in 8-bit floats on ONNX Runtime: each product held against NumPy, the logits against the publisher's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from ort_graphs import CachedDecoder
from phiedge.calibration.int4 import RoundToNearest
from phiedge.errors import ExportError
from phiedge.exporters.dialects.rewrite import nodes_of
from phiedge.exporters.dialects.tensorrt import CONSERVATIVE, MODERN, to_tensorrt_decoder
from phiedge.exporters.dialects.tensorrt.contract import check_decoder
from phiedge.exporters.float8 import LARGEST, float8_scales, quantise_rows, to_float8
from phiedge.exporters.graphs import GraphFacts, draft_decoder, write_graphs
from phiedge.exporters.precision import FP8, FP16, for_tensorrt
from phiedge.exporters.tensors import EMBEDDING_TABLE
from positioned_decoder import PositionedDecoder

PLAN = for_tensorrt(FP8)
CAPACITY = 600
FLOAT8 = onnx.TensorProto.FLOAT8E4M3FN
LINEARS = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(3)
    for part in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
]


def write(checkpoint, path: Path, scales: Mapping[str, float] | None) -> GraphFacts:
    return write_graphs(
        checkpoint,
        precision=FP16 if scales is None else FP8,
        dialects=["tensorrt"] if scales is None else ["ort", "tensorrt"],
        max_context=CAPACITY,
        out_dir=path,
        quantiser=RoundToNearest(),
        activation_scales=scales,
    )


def linears(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """The tensors that go into each linear of a layer and come out of it, as computed, by the name of its weight."""
    producers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for product in (node for node in model.graph.node if node.op_type == "MatMul"):
        x, weight = (producers.get(name) for name in product.input)
        while weight is not None and weight.op_type in ("Transpose", "DequantizeLinear"):
            name = weight.input[0]
            weight = producers.get(name)
        if x is not None and x.op_type == "DequantizeLinear":
            x = producers[producers[x.input[0]].input[0]]
        found[name.removesuffix(".float8")] = (x.output[0], product.output[0])
    return {name: found[name] for name in LINEARS}


class OpenDecoder(PositionedDecoder):
    """A decoder whose linears can be looked into after a run."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path, load_external_data=False)
        self.linears = linears(model)
        names = dict.fromkeys(name for pair in self.linears.values() for name in pair)
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, None) for name in names
        )
        opened = path.with_name(f"open.{path.name}")
        onnx.save(model, opened)
        super().__init__(opened)

    def look_into(self, rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Inputs and outputs of all linears when a fresh decoder gets `rows`."""
        feeds = {"inputs_embeds": rows[None].astype(self.dtype), "position_ids": np.arange(len(rows))[None]}
        feeds |= {"last_row": np.array([len(rows) - 1])} | {
            f"past.{name}": cache for name, cache in self.caches.items()
        }
        names = [name for pair in self.linears.values() for name in pair]
        values = dict(zip(names, self.session.run(names, feeds), strict=True))
        return {name: (values[x], values[y]) for name, (x, y) in self.linears.items()}


@pytest.fixture(scope="module")
def scales(oracle_checkpoint, oracle_arrays, tmp_path_factory) -> dict[str, float]:
    """What calibration will measure: the largest input of each linear, on one request, divided by 448."""
    path = tmp_path_factory.mktemp("fp16")
    write(oracle_checkpoint, path, None)
    seen = OpenDecoder(path / "decoder.tensorrt.onnx").look_into(oracle_arrays["img1/inputs_embeds"][0])
    return {name: float(np.abs(x).max()) / LARGEST for name, (x, _) in seen.items()}


@pytest.fixture(scope="module")
def written(oracle_checkpoint, scales, tmp_path_factory) -> tuple[Path, GraphFacts]:
    path = tmp_path_factory.mktemp("float8")
    facts = write(oracle_checkpoint, path, scales)
    return path / "decoder.tensorrt.onnx", facts


def test_every_product_is_what_numpy_makes_of_rounded_inputs_and_rounded_weights(
    written, scales, oracle_checkpoint, oracle_arrays
) -> None:
    seen = OpenDecoder(written[0]).look_into(oracle_arrays["text/inputs_embeds"][0])
    float8 = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(FLOAT8))
    for name, (x, y) in seen.items():
        scale = float8_scales(np.array(scales[name] * LARGEST))
        rounded = to_float8(x.astype(np.float32) / scale).view(float8).astype(np.float32) * scale
        weight, _ = quantise_rows(oracle_checkpoint.float32(name))
        expected = rounded @ weight.dequantise().T
        np.testing.assert_allclose(y, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_logits_are_as_near_to_the_publishers_as_three_bits_of_mantissa_allow(
    written, oracle_checkpoint, oracle_arrays
) -> None:
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    run = PositionedDecoder(written[0])
    logits = run.prefill(oracle_arrays["img1/inputs_embeds"][0], chunk=100, padded=True)
    for step_logits in oracle_arrays["img1/step_logits"]:
        assert np.linalg.norm(logits - step_logits) < 0.2 * np.linalg.norm(step_logits)
        logits = run.run(table[int(step_logits.argmax())][None])


def test_weights_have_a_scale_by_row_and_inputs_one_and_the_head_stays_float16(written) -> None:
    path, facts = written
    model = onnx.load(path, load_external_data=False)
    types = {value.name: (value.data_type, list(value.dims)) for value in model.graph.initializer}
    assert types["model.layers.0.mlp.down_proj.weight.float8"] == (FLOAT8, [128, 448])
    assert types["model.layers.0.mlp.down_proj.weight.scales"] == (onnx.TensorProto.FLOAT16, [128])
    assert types["constant.model.layers.0.mlp.down_proj.weight.input_scale"] == (onnx.TensorProto.FLOAT16, [])
    assert types["lm_head.weight"] == (onnx.TensorProto.FLOAT16, [512, 128])
    assert [(row.name, row.bits, row.method) for row in facts.quantised] == [
        (name, 8, "float8-by-row") for name in LINEARS
    ]
    assert all(row.relative_l2 < 0.03 for row in facts.quantised)
    assert facts.quantised[0].stored_bytes == 192 * 128 + 192 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scales: scales.pop(LINEARS[4]), rf"12 linears, 11 are given: {LINEARS[4]} has none"),
        (
            lambda scales: scales.update({"lm_head.weight": 1.0}),
            "13 are given: lm_head.weight is no linear of a decoder",
        ),
        (lambda scales: scales.update({LINEARS[0]: 0.0}), rf"input of {LINEARS[0]} is 0, wanted is a positive number"),
        (lambda scales: scales.update({LINEARS[0]: 1e6}), rf"input of {LINEARS[0]} is 1e\+06"),
        (lambda scales: scales.update({LINEARS[0]: float("nan")}), rf"input of {LINEARS[0]} is nan"),
    ],
)
def test_scales_that_do_not_fit_the_graph_are_refused(oracle_checkpoint, change, message) -> None:
    scales = dict.fromkeys(LINEARS, 0.01)
    change(scales)
    with pytest.raises(ExportError, match=message):
        to_tensorrt_decoder(
            draft_decoder(oracle_checkpoint.config, PLAN, max_context=16), PLAN, activation_scales=scales
        )


def test_float8_is_of_the_modern_form_only(oracle_checkpoint) -> None:
    draft = draft_decoder(oracle_checkpoint.config, PLAN, max_context=16)
    with pytest.raises(ExportError, match="float8 products are wanted in the dialect tensorrt-10.3, which has none"):
        to_tensorrt_decoder(draft, PLAN, CONSERVATIVE, activation_scales=dict.fromkeys(LINEARS, 0.01))


def test_float8_without_scales_is_refused(oracle_checkpoint) -> None:
    draft = draft_decoder(oracle_checkpoint.config, PLAN, max_context=16)
    with pytest.raises(ExportError, match="each of 12 linears, 0 are given"):
        to_tensorrt_decoder(draft, PLAN)


def test_the_ort_dialect_computes_the_same_from_the_same_bytes(written, oracle_checkpoint, oracle_arrays) -> None:
    rows = oracle_arrays["img1/inputs_embeds"][0]
    modern = PositionedDecoder(written[0]).prefill(rows, chunk=len(rows), padded=False)
    ours = CachedDecoder(written[0].with_name("decoder.ort.onnx"), capacity=CAPACITY).prefill(rows, chunk=len(rows))
    assert np.linalg.norm(ours - modern) < 0.2 * np.linalg.norm(modern)


def test_the_contract_wants_one_scale_for_all_of_an_input(oracle_checkpoint) -> None:
    draft = draft_decoder(oracle_checkpoint.config, PLAN, max_context=16)
    to_tensorrt_decoder(draft, PLAN, activation_scales=dict.fromkeys(LINEARS, 0.01))
    check_decoder(draft, MODERN)
    first, of_weight = nodes_of(draft, "QuantizeLinear")[0], nodes_of(draft, "DequantizeLinear")[0]
    first.replace_input_with(1, of_weight.inputs[1])
    with pytest.raises(ExportError, match="with a scale of 1 axes, wanted is one for all of an input"):
        check_decoder(draft, MODERN)
