import json

from phiedge.calibration.report import quantisation_rows, quantisation_totals
from phiedge.exporters.quantised import QuantisedTensor


def tensor(name: str, relative_l2: float, stored_bytes: int) -> QuantisedTensor:
    return QuantisedTensor(
        name=name,
        method="rtn",
        bits=4,
        group_size=32,
        accuracy_level=4,
        shape=(4, 64),
        relative_l2=relative_l2,
        max_abs_error=0.1,
        stored_bytes=stored_bytes,
        sha256="0" * 64,
    )


TENSORS = [tensor("a", 0.08, 160), tensor("b", 0.11, 160)]


def test_rows_are_plain_json_in_the_order_of_the_model() -> None:
    rows = json.loads(json.dumps(quantisation_rows(TENSORS)))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["shape"] == [4, 64]
    assert rows[0]["accuracy_level"] == 4


def test_totals_count_scales_and_name_the_worst_tensor() -> None:
    assert quantisation_totals(TENSORS) == {
        "weights": 512,
        "stored_bytes": 320,
        "bits_per_weight": 5.0,
        "worst_tensor": "b",
        "worst_relative_l2": 0.11,
    }


def test_nothing_quantised_has_totals_too() -> None:
    assert quantisation_totals([])["weights"] == 0
    assert quantisation_totals([])["worst_tensor"] is None
