from dataclasses import replace

import pytest

from phiedge.bundle import Bundle
from phiedge.errors import BundleError
from phiedge.pipeline.inspection.quantisation import read_quantisation

ROW = '{"name": "w", "relative_l2": 0.1, "max_abs_error": 1}'


def test_errors_come_by_tensor_and_the_rest_as_it_is(two_dialects: Bundle) -> None:
    report = read_quantisation(two_dialects)
    assert report is not None
    assert report.errors["model.layers.0.mlp.down_proj.weight"].relative_l2 == 0.125
    assert report.summary == {"precision": "int4", "notes": ["a note"]}


def test_a_bundle_without_a_report_has_none(two_dialects: Bundle) -> None:
    without = replace(two_dialects, manifest=replace(two_dialects.manifest, quantization=None))
    assert read_quantisation(without) is None


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        "{}",
        '{"tensors": 3}',
        '{"tensors": [3]}',
        '{"tensors": [{"name": "w"}]}',
        f'{{"tensors": [{ROW.replace("0.1", "NaN")}]}}',
        f'{{"tensors": [{ROW.replace("0.1", "1e999")}]}}',
        f'{{"tensors": [{ROW.replace("0.1", "null")}]}}',
        '{"tensors": [], "accuracy": Infinity}',
        '{"tensors": [], "end_to_end": {"kl_max": 1e999}}',
    ],
)
def test_a_damaged_report_is_refused_by_its_path(two_dialects: Bundle, damaged: str) -> None:
    path = two_dialects.file("quantization.json")
    path.write_text(damaged)
    with pytest.raises(BundleError, match="quantization.json is not a report of quantisation") as caught:
        read_quantisation(two_dialects)
    assert "phiedge verify" in str(caught.value.remedy)
