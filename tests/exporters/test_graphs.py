"""The exported graphs on ONNX Runtime, held against the publisher's numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fake_checkpoints import FakeDims, write_checkpoint
from ort_graphs import CachedDecoder, open_graph
from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import ExportError, TensorError, UsageError
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.decoder import Decoder
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import FP32, INT4, choose_precision
from phiedge.exporters.rotary import rotary_tables
from phiedge.exporters.tensors import EMBEDDING_TABLE

CASES = ["text", "img1", "img1_think", "img1_nothink", "img2", "img2_swapped", "img1_trunc"]
CAPACITY = 640


def export(checkpoint: Path, out_dir: Path, **options):
    out_dir.mkdir(exist_ok=True)
    options = {"precision": FP32, "max_context": 64, "quantiser": RoundToNearest()} | options
    with open_checkpoint(str(checkpoint)) as opened:
        return write_graphs(opened, out_dir=out_dir, **options)


def nodes(path: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(path, load_external_data=False).graph.node)


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("fake") / "model", FakeDims())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 1e-2), ("int4", 1e-2)])
@pytest.mark.parametrize("case", ["img1", "img1_think", "img2"])
def test_projected_rows_are_the_publishers(exported, oracle_arrays, oracle_cases, precision, tolerance, case) -> None:
    session = open_graph(exported(precision).path / "vision.ort.onnx")
    dtype = np.float16 if precision == "fp16" else np.float32
    for index in range(len(oracle_cases[case]["images"])):
        pos_embed = oracle_arrays[f"{case}/pos_embed_{index}"]
        patches = oracle_arrays[f"{case}/pixel_values"][index][: len(pos_embed)]
        feeds = {"patches": patches.astype(dtype), "pos_embed": pos_embed.astype(dtype)}
        (rows,) = session.run(["features"], feeds)
        assert rows.dtype == dtype
        np.testing.assert_allclose(rows, oracle_arrays[f"{case}/projected_{index}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("chunk", [CAPACITY, 100])
@pytest.mark.parametrize("case", CASES)
def test_fp32_logits_and_greedy_tokens_are_the_publishers(
    exported, oracle_checkpoint, oracle_arrays, oracle_cases, case, chunk
) -> None:
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    decoder = CachedDecoder(exported("fp32").path / "decoder.ort.onnx", capacity=CAPACITY)
    logits = decoder.prefill(oracle_arrays[f"{case}/inputs_embeds"][0], chunk=chunk)
    tokens = []
    for step_logits in oracle_arrays[f"{case}/step_logits"]:
        np.testing.assert_allclose(logits, step_logits, rtol=0, atol=1e-3)
        tokens.append(int(logits.argmax()))
        logits = decoder.run(table[tokens[-1]][None])
    assert tokens == oracle_cases[case]["greedy"]


def test_fp16_logits_are_close_and_its_greedy_tokens_equal(exported, oracle_arrays, oracle_checkpoint) -> None:
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    decoder = CachedDecoder(exported("fp16").path / "decoder.ort.onnx", capacity=CAPACITY)
    logits = decoder.prefill(oracle_arrays["img1/inputs_embeds"][0], chunk=100)
    for step_logits in oracle_arrays["img1/step_logits"]:
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, step_logits, rtol=0, atol=2e-2)
        assert logits.argmax() == step_logits.argmax()
        logits = decoder.run(table[int(logits.argmax())][None])


def test_a_total_length_pinned_at_the_capacity_changes_nothing(exported, oracle_arrays) -> None:
    rows = oracle_arrays["text/inputs_embeds"][0]
    graph = exported("fp32").path / "decoder.ort.onnx"
    exact, pinned = (CachedDecoder(graph, capacity=CAPACITY) for _ in range(2))
    for row in rows[:12]:
        np.testing.assert_array_equal(pinned.run(row[None], pinned_total=CAPACITY), exact.run(row[None]))


@pytest.fixture(scope="module")
def dequantised_decoder(oracle_checkpoint) -> Decoder:
    """The eager decoder with every linear's weights as the int4 export stores them."""
    config = oracle_checkpoint.config
    decoder = Decoder(config, max_context=CAPACITY)
    weights = dict(
        zip(("cos_cache", "sin_cache"), rotary_tables(config.head_dim, config.rope_theta, CAPACITY), strict=True)
    )
    for name, parameter in decoder.named_parameters():
        weight = oracle_checkpoint.float32(name)
        bits = 8 if name == "lm_head.weight" else 4
        weights[name] = quantise_rtn(weight, 32, bits=bits).dequantise() if parameter.dim() == 2 else weight
    decoder.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return decoder.requires_grad_(False)


@pytest.mark.parametrize(("accuracy_level", "tolerance"), [(1, 1e-4), (4, 0.1)])
def test_int4_computes_what_its_dequantised_weights_compute(
    exported, dequantised_decoder, oracle_checkpoint, oracle_arrays, tmp_path, accuracy_level, tolerance
) -> None:
    rows = oracle_arrays["text/inputs_embeds"][0]
    config = oracle_checkpoint.config
    caches = [torch.zeros(1, config.num_kv_heads, CAPACITY, config.head_dim) for _ in range(2 * config.num_layers)]
    lengths = torch.tensor([len(rows) - 1], dtype=torch.int32), torch.tensor(len(rows), dtype=torch.int32)
    expected = dequantised_decoder(torch.tensor(rows)[None], *lengths, *caches)[0][0, 0].numpy()

    path = exported("int4").path / "decoder.ort.onnx"
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                assert attribute.i == 4
                attribute.i = accuracy_level
    onnx.save(model, tmp_path / path.name)
    (tmp_path / "decoder.data").write_bytes(path.with_name("decoder.data").read_bytes())
    logits = CachedDecoder(tmp_path / path.name, capacity=CAPACITY).prefill(rows, chunk=20)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance)


def test_int4_stays_near_fp32_even_on_random_weights(exported, oracle_arrays) -> None:
    rows, reference = oracle_arrays["img1/inputs_embeds"][0], oracle_arrays["img1/logits"][0, -1]
    logits = CachedDecoder(exported("int4").path / "decoder.ort.onnx", capacity=CAPACITY).prefill(rows, chunk=100)
    cosine = logits @ reference / np.linalg.norm(logits) / np.linalg.norm(reference)
    assert cosine > 0.9  # a trained model is far above this; weights without structure hide no error


def test_int4_for_a_gpu_computes_what_int4_tried_on_a_cpu_computes(oracle_checkpoint, oracle_arrays, tmp_path) -> None:
    """In 16 bits but for norms and residual; on a CPU both stay within rounding of each other."""
    rows, found = oracle_arrays["img1/inputs_embeds"][0], []
    for plan in (choose_precision("int4", sm=sm, group_size=64).plan for sm in (89, 87)):
        out_dir = tmp_path / plan.activations
        out_dir.mkdir()
        write_graphs(
            oracle_checkpoint, precision=plan, max_context=CAPACITY, out_dir=out_dir, quantiser=RoundToNearest()
        )
        decoder = CachedDecoder(out_dir / "decoder.ort.onnx", capacity=CAPACITY)
        assert decoder.dtype == np.dtype(plan.activations)
        found.append(decoder.prefill(rows, chunk=100))
        assert found[-1].dtype == np.float32
    assert found[0] @ found[1] / np.linalg.norm(found[0]) / np.linalg.norm(found[1]) > 0.999
    types = {
        value.name: value.data_type
        for value in onnx.load(tmp_path / "float16" / "decoder.ort.onnx", load_external_data=False).graph.initializer
    }
    assert types["model.layers.0.input_layernorm.weight"] == onnx.TensorProto.FLOAT
    assert types["lm_head.weight.scales"] == onnx.TensorProto.FLOAT16


def test_two_exports_are_equal_to_the_last_bit(fake, tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    facts = [export(fake, path, precision=INT4) for path in (first, second)]
    assert facts[0] == facts[1]
    assert {path.name for path in first.iterdir()} == set(facts[0].files)
    for name in facts[0].files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_nodes_are_named_by_where_they_are(exported) -> None:
    names = {node.name: node.op_type for node in nodes(exported("int4").path / "decoder.ort.onnx")}
    assert names["/model/layers.0/self_attn/qkv_proj/MatMulNBits"] == "MatMulNBits"
    assert names["/model/layers.2/self_attn/GroupQueryAttention"] == "GroupQueryAttention"
    assert names["/model/layers.1/mlp/Split"] == "Split"
    assert names["/lm_head/MatMulNBits"] == "MatMulNBits"
    vision = {node.name for node in nodes(exported("int4").path / "vision.ort.onnx")}
    assert "/tower/encoder/layers.1/self_attn/MultiHeadAttention" in vision


def test_the_accuracy_level_is_on_every_quantised_node_and_in_every_row_of_the_report(exported) -> None:
    done = exported("int4")
    products = [node for node in nodes(done.path / "decoder.ort.onnx") if node.op_type == "MatMulNBits"]
    levels = [{attribute.name: attribute.i for attribute in node.attribute}["accuracy_level"] for node in products]
    assert levels == [row.accuracy_level for row in done.facts.quantised] == [4] * 13


def test_quantised_weights_carry_an_error_for_every_linear_of_the_decoder(exported, oracle_checkpoint) -> None:
    rows = {row.name: row for row in exported("int4").facts.quantised}
    linears = [n for n in oracle_checkpoint.config.tensors() if n.endswith("_proj.weight") and "model.layers" in n]
    assert set(rows) == {*linears, "lm_head.weight"}
    assert all(0.05 < row.relative_l2 < 0.12 for name, row in rows.items() if name != "lm_head.weight")
    assert rows["lm_head.weight"].bits == 8
    assert rows["lm_head.weight"].relative_l2 < 0.01
    assert exported("fp32").facts.quantised == ()


def test_only_standard_operators_and_those_of_onnx_runtime_are_left(exported) -> None:
    for precision in ("fp32", "fp16", "int4"):
        for graph in ("vision", "decoder"):
            model = onnx.load(exported(precision).path / f"{graph}.ort.onnx", load_external_data=False)
            assert {node.domain for node in model.graph.node} <= {"", "com.microsoft"}
            assert {entry.domain for entry in model.opset_import} <= {"", "com.microsoft"}


def test_the_host_tables_are_the_checkpoints(fake, tmp_path) -> None:
    facts = export(fake, tmp_path / "out")
    with open_checkpoint(str(fake)) as checkpoint:
        stored = np.fromfile(tmp_path / "out" / facts.embed_tokens.file, "<u2").reshape(facts.embed_tokens.shape)
        np.testing.assert_array_equal(stored, checkpoint.tensor(EMBEDDING_TABLE))
    assert facts.embed_tokens.dtype == "bfloat16"
    assert facts.positions.shape == (256, 48)
    assert (tmp_path / "out" / facts.positions.file).stat().st_size == 256 * 48 * 4


def test_a_group_size_that_does_not_divide_is_refused_and_a_smaller_one_works(fake, tmp_path) -> None:
    with pytest.raises(ExportError, match=r"model\.layers\.0\.mlp\.down_proj\.weight has K = 96"):
        export(fake, tmp_path / "out", precision=replace(INT4, group_size=64))
    assert not any((tmp_path / "out").iterdir())
    export(fake, tmp_path / "out", precision=INT4)


def test_a_context_of_one_token_is_a_context(fake, tmp_path) -> None:
    facts = export(fake, tmp_path / "out", max_context=1)
    decoder = CachedDecoder(tmp_path / "out" / facts.dialects["ort"].decoder, capacity=1)
    assert np.isfinite(decoder.run(np.ones((1, 64), np.float32))).all()


def test_what_cannot_be_exported_is_refused(fake, tmp_path) -> None:
    with pytest.raises(UsageError, match="unknown dialect 'orto'") as caught:
        export(fake, tmp_path, dialects=["ort", "orto"])
    assert caught.value.remedy == "use ort or tensorrt"
    with pytest.raises(UsageError, match="a context of 32769 tokens: the model has positions for 1 to 32768"):
        export(fake, tmp_path, max_context=32769)
    with pytest.raises(UsageError, match="a context of 0 tokens"):
        export(fake, tmp_path, max_context=0)


@pytest.mark.parametrize("name", [EMBEDDING_TABLE, "model.layers.1.mlp.down_proj.weight"])
def test_a_weight_that_is_not_finite_is_named(tmp_path, name) -> None:
    with open_checkpoint(str(write_checkpoint(tmp_path / "good"))) as good:
        values = good.float32(name).copy()
    values.reshape(-1)[5] = np.nan
    bad = write_checkpoint(tmp_path / "bad", replace={name: values})
    with pytest.raises(TensorError, match=rf"^{name}\[") as caught:
        export(bad, tmp_path / "out", precision=INT4)
    assert caught.value.tensor == name
