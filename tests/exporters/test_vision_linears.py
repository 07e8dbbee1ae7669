"""Linears of the vision graph in 8 bits, in every dialect: each product held against NumPy."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from phiedge.bundle.graph_file import read_graph
from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import ExportError
from phiedge.exporters.dialects.ort import to_ort_vision
from phiedge.exporters.dialects.tensorrt import CONSERVATIVE, to_tensorrt_vision
from phiedge.exporters.float8 import quantise_rows, to_float8
from phiedge.exporters.graphs import draft_vision, write_graphs
from phiedge.exporters.precision import FP16, FP32, INT4, PrecisionPlan, for_tensorrt
from phiedge.exporters.tensors import vision_tensor
from phiedge.exporters.vision_linears import vision_sources
from phiedge.exporters.vision_scales import LARGEST, check_vision_scales

FLOAT8 = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.FLOAT8E4M3FN))
BEFORE = {"Transpose", "Cast", "Mul", "DequantizeLinear"}


def plan_of(base: PrecisionPlan, form: str, **more) -> PrecisionPlan:
    return replace(base, vision_linears=form, **more)


class OpenVision:
    """A vision graph whose products can be looked into."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path, load_external_data=False)
        producers = {name: node for node in model.graph.node for name in node.output}
        self.products: dict[str, tuple[str, str, str | None]] = {}
        for node in model.graph.node:
            if node.op_type not in ("Gemm", "MatMulIntegerToFloat"):
                continue
            weight = node.input[1]
            while weight in producers:
                assert producers[weight].op_type in BEFORE
                weight = producers[weight].input[0]
            x = node.input[0]
            while x in producers and producers[x].op_type in ("QuantizeLinear", "DequantizeLinear"):
                x = producers[x].input[0]
            if weight.endswith((".int8", ".float8")):
                name = vision_tensor(weight.rpartition(".")[0])
                self.products[name] = x, node.output[0], node.input[6] if node.op_type != "Gemm" else node.input[2]
        names = dict.fromkeys(name for one in self.products.values() for name in one[:2])
        known = {value.name for value in (*model.graph.input, *model.graph.output)}
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, kind, None) for name in names if name not in known
        )
        opened = path.with_name(f"open.{path.name}")
        onnx.save(model, opened)
        self.session = ort.InferenceSession(str(opened), providers=["CPUExecutionProvider"])

    def run(self, patches: np.ndarray, positions: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        names = list(dict.fromkeys(name for one in self.products.values() for name in one[:2]))
        feeds = {"patches": patches.astype(self.dtype), "pos_embed": positions.astype(self.dtype)}
        found = dict(zip(names, self.session.run(names, feeds), strict=True))
        return {name: (found[x], found[y]) for name, (x, y, _) in self.products.items()}


@pytest.fixture(scope="module")
def shown(oracle_checkpoint) -> tuple[np.ndarray, np.ndarray]:
    config, rng = oracle_checkpoint.config, np.random.default_rng(4)
    patches = rng.uniform(-1, 1, (30, 3 * config.patch_size**2)).astype(np.float32)
    return patches, 0.1 * rng.standard_normal((30, config.vision_hidden_size)).astype(np.float32)


@pytest.fixture(scope="module")
def scales(oracle_checkpoint) -> dict[str, float]:
    """Some that clip nothing much; Q, K and V of a layer have one."""
    return {name: float(np.float16(0.03)) for name in vision_sources(oracle_checkpoint.config)}


def write(checkpoint, path: Path, plan: PrecisionPlan, dialects: list[str], scales: Mapping[str, float]) -> None:
    write_graphs(
        checkpoint,
        precision=plan,
        dialects=dialects,
        max_context=64,
        out_dir=path,
        quantiser=RoundToNearest(),
        vision_scales=scales,
    )


def rounded(x: np.ndarray, weight: np.ndarray, form: str, scale: float) -> np.ndarray:
    """The product without its bias, of what NumPy makes of both sides."""
    if form == "int8":
        x = np.clip(np.rint(x / np.float32(scale)), -128, 127) * np.float32(scale)
        return x @ quantise_rtn(weight, weight.shape[1], bits=8).dequantise().T
    x = to_float8(x / np.float32(scale)).view(FLOAT8).astype(np.float32) * np.float32(scale)
    return x @ quantise_rows(weight)[0].dequantise().T


@pytest.mark.parametrize(
    ("plan", "dialects", "tolerance"),
    [
        (plan_of(FP32, "int8", vision="float16", projector="float16"), ["ort"], 1e-3),  # of biases
        (plan_of(FP16, "int8"), ["ort", "tensorrt", "tensorrt-10.3"], 5e-3),
        (plan_of(FP16, "float8"), ["ort", "tensorrt"], 5e-3),
    ],
    ids=["integers", "int8", "float8"],
)
def test_every_product_is_what_numpy_makes_of_rounded_inputs_and_weights(
    oracle_checkpoint, shown, scales, tmp_path, plan, dialects, tolerance
) -> None:
    write(oracle_checkpoint, tmp_path, plan, dialects, scales)
    for dialect in dialects:
        found = OpenVision(tmp_path / f"vision.{dialect}.onnx").run(*shown)
        assert list(found) == vision_sources(oracle_checkpoint.config)
        for name, (x, y) in found.items():
            weight = oracle_checkpoint.float32(name)
            bias = oracle_checkpoint.float32(name.removesuffix("weight") + "bias")
            expected = rounded(x.astype(np.float32), weight, plan.vision_linears, scales[name]) + bias
            np.testing.assert_allclose(y, expected, atol=tolerance * np.abs(expected).max(), err_msg=name)
    places = [coded_at(tmp_path / f"vision.{dialect}.onnx") for dialect in dialects]
    assert len(places[0]) == 2 * len(scales)
    assert all(place == places[0] for place in places), "dialects share the codes"


def coded_at(path: Path) -> dict[str, int]:
    """Where codes and scales lie in the file of weights."""
    kinds = (".int8", ".float8", ".scales")
    return {one.name: one.offset for one in read_graph(path).weights if one.name.endswith(kinds)}


def test_beside_float32_integers_are_multiplied_and_rows_that_three_read_are_rounded_once(
    oracle_checkpoint, scales
) -> None:
    plan = plan_of(FP32, "int8")
    draft = draft_vision(oracle_checkpoint.config, plan)
    to_ort_vision(draft, plan, input_scales=scales)
    operators = [node.op_type for node in draft.graph]
    layers = oracle_checkpoint.config.vision_layers_used
    assert operators.count("MatMulIntegerToFloat") == 6 * layers + 2
    assert operators.count("QuantizeLinear") == 4 * layers + 2
    assert operators.count("Gemm") == 1, "the embedding of patches"
    assert "DequantizeLinear" not in operators


def test_a_scale_that_is_missing_left_over_or_no_float16_is_named(oracle_checkpoint, scales) -> None:
    last = list(scales)[-1]
    plan = plan_of(FP16, "int8")
    traced = draft_vision(oracle_checkpoint.config, plan)
    for wrong, told in (
        ({name: scale for name, scale in scales.items() if name != last}, f"{last} has none"),
        (scales | {"lm_head.weight": 0.5}, "lm_head.weight is no linear of the vision graph"),
        (scales | {last: 0.1}, f"the scale of the input of {last} is 0.1, wanted is a normal float16 number"),
        (scales | {last: 0.0}, f"the scale of the input of {last} is 0"),
        (scales | {last: float("inf")}, f"the scale of the input of {last} is inf"),
    ):
        for passes in (to_ort_vision, to_tensorrt_vision):
            with pytest.raises(ExportError, match=told):
                passes(traced.copy(), plan, input_scales=wrong)
    check_vision_scales(list(scales), scales)


def test_the_conservative_form_has_no_8_bit_floats(oracle_checkpoint, scales) -> None:
    plan = for_tensorrt(plan_of(FP16, "float8"))
    with pytest.raises(ExportError, match=r"in the dialect tensorrt-10\.3, which has none"):
        to_tensorrt_vision(draft_vision(oracle_checkpoint.config, plan), plan, form=CONSERVATIVE, input_scales=scales)


def test_the_record_says_what_linears_are_and_what_they_are_not(oracle_checkpoint) -> None:
    told = plan_of(INT4, "int8").record(embed_tokens="bfloat16")
    assert (told.vision, told.projector, told.decoder) == ("int8", "int8", "int4")
    assert INT4.record(embed_tokens="bfloat16").vision == "float16"
    assert set(LARGEST) == {"int8", "float8"}
