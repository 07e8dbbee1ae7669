"""Plans against measurements, on what a bench could have said."""

from pathlib import Path
from typing import Any

from benchmarks.acceptance_tables import plan_here
from benchmarks.plan_here import compare, summarise
from phiedge.bundle import Bundle


def measured(ms: float) -> dict[str, Any]:
    rate = {"best": 100.0, "median": 90.0, "rounds": 3}
    times = {"p50": ms, "count": 5}
    return {
        "rates": {"read_gbps": rate, "float_gflops": rate, "int8_gops": rate},
        "decode": [{"context": 64, "ms": times}],
        "prefill": [{"tokens": 256, "ms": times}],
        "vision": [{"picture": "256x256", "patches": 256, "ms": times}],
    }


def test_every_measured_time_stands_beside_its_plan(tiny_bundle: Bundle) -> None:
    path: Path = tiny_bundle.path
    rows = compare(path, measured(1.0))
    assert [(row["what"], row["size"]) for row in rows] == [("token", 64), ("prompt", 256), ("picture", 256)]
    planned_ms = rows[1]["planned_ms"]
    same = compare(path, measured(planned_ms))[1]
    assert abs(same["off"]) < 0.01
    assert compare(path, measured(2 * planned_ms))[1]["off"] == -0.5


def test_a_summary_counts_what_lies_within_a_fifth() -> None:
    found = summarise([{"off": 0.2}, {"off": -0.21}, {"off": 0.0}])
    assert (found["rows"], found["within_20_percent"], found["median"], found["most"]) == (3, 2, 0.2, 0.21)


def test_its_table_has_a_row_for_each_time_and_for_a_profile(tiny_bundle: Bundle) -> None:
    rows = compare(tiny_bundle.path, measured(1.0))
    fit = {"requests": 7, "median_error": 0.031}
    table = plan_here({"1b": {"rows": rows, "profile_fit": fit}}, {})
    assert len(table) == 1 + 3 + 1
    assert table[-1][-1] == "3.1 %"
