from dataclasses import replace

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.errors import BundleError
from phiedge.pipeline.inspection.graphs import DialectReport, describe_dialect, read_dialects


def described(bundle: Bundle) -> dict[str, DialectReport]:
    return {read.name: describe_dialect(bundle, read) for read in read_dialects(bundle)}


def test_operators_are_counted_the_most_frequent_first(two_dialects: Bundle) -> None:
    decoder = described(two_dialects)["tensorrt"].decoder
    assert decoder is not None
    counted = [(operator.op_type, operator.domain, operator.count) for operator in decoder.operators]
    assert counted == [("MatMul", "", 3), ("Transpose", "", 2), ("DequantizeLinear", "", 1), ("Mul", "", 1)]
    assert (decoder.nodes, decoder.opsets[""], decoder.ir_version) == (7, 24, 11)


def test_a_graph_has_its_inputs_and_outputs_with_types_and_shapes(two_dialects: Bundle) -> None:
    decoder = described(two_dialects)["ort"].decoder
    assert decoder is not None
    embeds = decoder.inputs[0]
    assert (embeds.name, embeds.dtype, embeds.shape) == ("inputs_embeds", "float16", (1, "t", 32))
    assert [(value.name, value.shape) for value in decoder.outputs] == [("logits", (1, 1, 16))]


def test_caches_take_what_all_positions_take_and_have_the_capacity_that_the_graph_says(two_dialects: Bundle) -> None:
    found = described(two_dialects)
    assert (found["ort"].cache_bytes, found["ort"].capacity) == (2 * 64 * 4 * 2, None)
    assert (found["tensorrt"].cache_bytes, found["tensorrt"].capacity) == (2 * 2 * 64 * 4 * 2, 64)


def test_weights_are_what_a_graph_reads_each_byte_once(two_dialects: Bundle) -> None:
    found = described(two_dialects)["ort"]
    assert found.decoder is not None
    assert (found.decoder.weights_bytes, found.weights_bytes) == (432, 432 + 64)
    assert found.decoder.tensors == 5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"decoder.data": None}, "reads bytes up to 128 of decoder.data, which is not in the bundle"),
        ({"decoder.data": 431}, "reads bytes up to 432 of decoder.data, which has 431"),
    ],
)
def test_weights_that_are_not_there_are_refused(two_dialects: Bundle, change: dict[str, int | None], told: str) -> None:
    files = dict(two_dialects.manifest.files)
    for name, size_bytes in change.items():
        entry = files.pop(name)
        if size_bytes is not None:
            files[name] = FileEntry(sha256=entry.sha256, bytes=size_bytes)
    with pytest.raises(BundleError, match=told):
        read_dialects(replace(two_dialects, manifest=replace(two_dialects.manifest, files=files)))
