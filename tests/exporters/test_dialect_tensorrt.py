"""The tensorrt dialect on ONNX Runtime, held against the publisher's numbers and against the ort dialect."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ort_graphs import CachedDecoder, open_graph
from phiedge.calibration.int4 import RoundToNearest
from phiedge.errors import ExportError
from phiedge.exporters.dialects.tensorrt import to_tensorrt_decoder, to_tensorrt_vision
from phiedge.exporters.graph_io import GraphIO, positioned_decoder_io, row_output_decoder_io, vision_io
from phiedge.exporters.graphs import DIALECTS, GraphFacts, draft_decoder, draft_vision, write_graphs
from phiedge.exporters.precision import FP16, FP32, INT4, for_tensorrt
from phiedge.exporters.tensors import EMBEDDING_TABLE
from positioned_decoder import PositionedDecoder

CASES = ["text", "img1", "img1_think", "img1_nothink", "img2", "img2_swapped", "img1_trunc"]
CAPACITY = 704  # the longest case has 526 rows and 8 answers, and the last of its chunks of 100 ends at 600
PLANS = {
    "fp32": FP32,
    "fp16": FP16,
    "int4": for_tensorrt(replace(INT4, group_size=64)),
    # Not what TensorRT is given: as exact as int4 can be computed.
    "int4 in float32": replace(
        INT4, group_size=64, lm_head="int4", codes="signed", vision="float32", projector="float32"
    ),
}


FORMS = ("tensorrt", "tensorrt-10.3")


@pytest.fixture(scope="module")
def write(oracle_checkpoint, tmp_path_factory) -> Callable[[str], tuple[Path, GraphFacts]]:
    """Exports the oracle checkpoint by a plan, the first time that it is asked for: in both forms, or for `ort`."""
    done: dict[tuple[str, bool], tuple[Path, GraphFacts]] = {}

    def export(plan: str, *, ort: bool = False) -> tuple[Path, GraphFacts]:
        if (plan, ort) not in done:
            path, dialects = tmp_path_factory.mktemp("graphs"), ("ort",) if ort else FORMS
            with pytest.MonkeyPatch.context() as patch:
                for dialect in dialects:
                    patch.setitem(DIALECTS, dialect, replace(DIALECTS[dialect], plan=lambda plan: plan))
                facts = write_graphs(
                    oracle_checkpoint,
                    precision=PLANS[plan],
                    dialects=dialects,
                    max_context=CAPACITY,
                    out_dir=path,
                    quantiser=RoundToNearest(),
                )
            done[plan, ort] = path, facts
        return done[plan, ort]

    return export


@pytest.fixture(params=FORMS)
def form(request) -> str:
    """The two forms of the dialect."""
    return request.param


@pytest.fixture
def decoder(write, form) -> Callable[..., PositionedDecoder]:
    """A fresh decoder of a plan."""
    return lambda plan, **options: PositionedDecoder(write(plan)[0] / f"decoder.{form}.onnx", **options)


@pytest.mark.parametrize("chunk", [CAPACITY, 100])
@pytest.mark.parametrize("case", CASES)
def test_fp32_logits_and_greedy_tokens_are_the_publishers(
    decoder, oracle_checkpoint, oracle_arrays, oracle_cases, case, chunk
) -> None:
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    run = decoder("fp32")
    logits = run.prefill(oracle_arrays[f"{case}/inputs_embeds"][0], chunk=chunk, padded=chunk == 100)
    tokens = []
    for step_logits in oracle_arrays[f"{case}/step_logits"]:
        np.testing.assert_allclose(logits, step_logits, rtol=0, atol=1e-3)
        tokens.append(int(logits.argmax()))
        logits = run.run(table[tokens[-1]][None])
    assert tokens == oracle_cases[case]["greedy"]


def test_fp32_caches_are_the_publishers_and_all_rows_after_are_still_zero(decoder, oracle_arrays) -> None:
    run, rows = decoder("fp32"), oracle_arrays["img1/inputs_embeds"][0]
    run.prefill(rows, chunk=100)
    for name, expected in (("0.key", "k_cache_0"), ("2.key", "k_cache_2"), ("2.value", "v_cache_2")):
        cache = run.caches[name]
        np.testing.assert_allclose(cache[:, :, : len(rows)], oracle_arrays[f"img1/{expected}"], rtol=0, atol=1e-4)
        assert not cache[:, :, len(rows) :].any()


def test_fp16_logits_are_close_and_its_greedy_tokens_equal(decoder, oracle_arrays, oracle_checkpoint) -> None:
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    run = decoder("fp16")
    logits = run.prefill(oracle_arrays["img1/inputs_embeds"][0], chunk=100, padded=True)
    assert run.dtype == np.float16
    for step_logits in oracle_arrays["img1/step_logits"]:
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, step_logits, rtol=0, atol=2e-2)
        assert logits.argmax() == step_logits.argmax()
        logits = run.run(table[int(logits.argmax())][None])


@pytest.mark.parametrize(("plan", "tolerance"), [("int4 in float32", 1e-4), ("int4", 2e-2)])
def test_int4_is_the_same_model_as_in_the_ort_dialect(write, decoder, oracle_arrays, plan, tolerance) -> None:
    rows = oracle_arrays["img1/inputs_embeds"][0]
    path, _ = write(plan, ort=True)
    peer = CachedDecoder(path / "decoder.ort.onnx", capacity=CAPACITY)
    run = decoder(plan)
    np.testing.assert_allclose(run.prefill(rows, chunk=100), peer.prefill(rows, chunk=100), rtol=0, atol=tolerance)
    for row in rows[:3]:
        np.testing.assert_allclose(run.run(row[None]), peer.run(row[None]), rtol=0, atol=tolerance)


def test_what_pads_a_chunk_changes_nothing(decoder, oracle_arrays) -> None:
    rows = oracle_arrays["text/inputs_embeds"][0]
    exact, *padded = decoder("fp32"), decoder("fp32", padding=0.0), decoder("fp32", padding=-900.0)
    for start in range(0, 45, 9):
        chunk = rows[start : start + 9]
        expected = exact.run(chunk)
        for run in padded:
            np.testing.assert_allclose(run.run(chunk, pad_to=16), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(*(run.run(rows[45:46], pad_to=1) for run in padded))


def test_a_row_sees_no_later_row_of_its_chunk(decoder, oracle_arrays) -> None:
    rows = oracle_arrays["img1/inputs_embeds"][0][:40]
    logits, caches = [], []
    for later in (rows[20:], -3 * rows[20:], np.zeros_like(rows[20:])):
        run = decoder("fp32")
        embeds = np.concatenate((rows[:20], later))
        logits.append(run.run(embeds, last_row=19))
        caches.append(run.caches)
    for other in (1, 2):
        np.testing.assert_array_equal(logits[other], logits[0])
        for name, cache in caches[0].items():
            np.testing.assert_array_equal(caches[other][name][:, :, :20], cache[:, :, :20])


@pytest.mark.parametrize("plan", ["fp32", "fp16"])
def test_cache_rows_that_no_row_may_see_have_no_weight_at_all(decoder, oracle_arrays, plan) -> None:
    rows = oracle_arrays["text/inputs_embeds"][0]
    clean, dirty = decoder(plan), decoder(plan)
    for cache in dirty.caches.values():
        cache[:] = 100.0
    for chunk in (rows[:30], rows[30:31], rows[31:]):
        np.testing.assert_array_equal(dirty.run(chunk), clean.run(chunk))


@pytest.mark.parametrize(("plan", "tolerance"), [("fp32", 1e-4), ("fp16", 1e-2), ("int4", 1e-2)])
@pytest.mark.parametrize("case", ["img1", "img2"])
def test_projected_rows_are_the_publishers(write, form, oracle_arrays, oracle_cases, plan, tolerance, case) -> None:
    session = open_graph(write(plan)[0] / f"vision.{form}.onnx")
    dtype = np.float32 if plan == "fp32" else np.float16
    for index in range(len(oracle_cases[case]["images"])):
        pos_embed = oracle_arrays[f"{case}/pos_embed_{index}"]
        patches = oracle_arrays[f"{case}/pixel_values"][index][: len(pos_embed)]
        feeds = {"patches": patches.astype(dtype), "pos_embed": pos_embed.astype(dtype)}
        (rows,) = session.run(["features"], feeds)
        assert rows.dtype == dtype
        np.testing.assert_allclose(rows, oracle_arrays[f"{case}/projected_{index}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("plan", ["fp32", "fp16", "int4"])
def test_the_graphs_have_the_ports_that_are_stated_and_standard_operators_only(
    write, form, oracle_checkpoint, plan
) -> None:
    path, facts = write(plan)
    described, config = facts.dialects[form], oracle_checkpoint.config
    float_type = "tensor(float)" if plan == "fp32" else "tensor(float16)"
    decoder_io = {"tensorrt": positioned_decoder_io, "tensorrt-10.3": row_output_decoder_io}[form]
    for io in (vision_io(config), decoder_io(config, max_context=CAPACITY)):
        graph = path / f"{io.name}.{form}.onnx"
        model = onnx.load(graph, load_external_data=False)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", described.opset)]
        onnx.checker.check_model(str(graph))
        _check_ports(graph, io, float_type)
    assert described.opset == {"tensorrt": 24, "tensorrt-10.3": 21}[form]
    assert described.max_context == CAPACITY


def _check_ports(graph: Path, io: GraphIO, float_type: str) -> None:
    types = {"float": float_type, "float32": "tensor(float)", "int64": "tensor(int64)"}
    session = open_graph(graph)
    for ports, found in ((io.inputs, session.get_inputs()), (io.outputs, session.get_outputs())):
        assert [(port.name, list(port.shape), types[port.dtype]) for port in ports] == [
            (port.name, port.shape, port.type) for port in found
        ]


def test_codes_in_the_file_are_int4_and_scales_of_the_activations_type(write) -> None:
    path, facts = write("int4")
    model = onnx.load(path / "decoder.tensorrt.onnx", load_external_data=False)
    types = {value.name: (value.data_type, list(value.dims)) for value in model.graph.initializer}
    assert types["model.layers.0.mlp.down_proj.weight.int4"] == (onnx.TensorProto.INT4, [128, 448])
    assert types["model.layers.0.mlp.down_proj.weight.scales"] == (onnx.TensorProto.FLOAT16, [128, 7])
    assert types["lm_head.weight.int4"] == (onnx.TensorProto.INT4, [512, 128])
    assert types["model.norm.weight"] == (onnx.TensorProto.FLOAT, [128])
    assert [row.bits for row in facts.quantised] == [4] * 13
    assert facts.quantised[0].stored_bytes == 192 * 128 // 2 + 192 * 2 * 2
    assert (path / "decoder.data").stat().st_size < 600_000


@pytest.mark.parametrize("graph", ["vision", "decoder"])
@pytest.mark.parametrize("plan", ["fp16", "int4"])
def test_both_forms_read_the_same_bytes_as_the_same_weights(write, plan, graph) -> None:
    path, _ = write(plan)
    modern, conservative = (
        {
            value.name: (value.data_type, tuple(value.dims), {entry.key: entry.value for entry in value.external_data})
            for value in onnx.load(path / f"{graph}.{form}.onnx", load_external_data=False).graph.initializer
            if value.external_data
        }
        for form in FORMS
    )
    assert modern == conservative
    assert {entry[2]["location"] for entry in modern.values()} == {f"{graph}.data"}


def test_what_tensorrt_could_only_compute_otherwise_is_refused(oracle_checkpoint) -> None:
    config, plan = oracle_checkpoint.config, replace(INT4, group_size=64)
    with pytest.raises(ExportError, match="stored as float16 and computed in float32"):
        to_tensorrt_vision(draft_vision(config, plan), plan)
    plan = replace(plan, activations="float16")
    with pytest.raises(ExportError, match="lm_head.weight is to be int8"):
        to_tensorrt_decoder(draft_decoder(config, plan, max_context=64), plan)
