"""Plans against measurements, on what could have been measured."""

from dataclasses import replace

from benchmarks.acceptance_tables import plan_here
from benchmarks.plan_here import Case, compare, middle_of, summarise
from phiedge.bundle import Bundle
from phiedge.devices.planning.sampled import SampledTimes
from phiedge.engines.machine_rates import MachineRates, MeasuredRate

RATE = MeasuredRate(best=100.0, median=90.0, rounds=3)
RATES = MachineRates(threads=2, float_type="float32", read_gbps=RATE, float_gflops=RATE, int8_gops=RATE)
SAMPLED = SampledTimes(
    token_ms=((64, 2.0), (1024, 3.0)),
    chunk_ms=((256, 40.0),),
    past_ms=((0, 0.0),),
    picture_ms=((256, 5.0),),
    layers=2,
    error=0.25,
)


def measured(ms: float) -> dict[Case, list[float]]:
    return {("token", 64): [ms, ms, 9 * ms], ("prompt", 256): [20 * ms], ("picture", 256): [2.5 * ms]}


def test_every_measured_time_stands_beside_its_plan(tiny_bundle: Bundle) -> None:
    rows = compare(tiny_bundle.path, RATES, SAMPLED, [measured(1.0), measured(2.0), measured(2.1)])
    assert [(row["what"], row["size"]) for row in rows] == [("token", 64), ("prompt", 256), ("picture", 256)]
    assert [row["off"] for row in rows] == [0.0, 0.0, 0.0]
    assert rows[0]["turns_ms"] == [1.0, 2.0, 2.1]
    assert rows[0]["samples"] == 9
    assert [row["off"] for row in compare(tiny_bundle.path, RATES, SAMPLED, [measured(4.0)])] == [-0.5, -0.5, -0.5]


def test_of_several_samples_the_middle_is_planned_with() -> None:
    slow, odd = replace(SAMPLED, chunk_ms=((256, 50.0),)), replace(SAMPLED, chunk_ms=((256, 900.0),))
    assert middle_of([SAMPLED, odd, slow]).chunk_ms == ((256, 50.0),)
    assert middle_of([SAMPLED, odd, slow]).token_ms == SAMPLED.token_ms


def test_a_summary_counts_what_lies_within_a_fifth() -> None:
    found = summarise([{"off": 0.2}, {"off": -0.21}, {"off": 0.0}])
    assert (found["rows"], found["within_20_percent"], found["median"], found["most"]) == (3, 2, 0.2, 0.21)


def test_its_table_has_a_row_for_each_time_and_for_a_profile(tiny_bundle: Bundle) -> None:
    rows = compare(tiny_bundle.path, RATES, SAMPLED, [measured(1.0)])
    fit = {"requests": 7, "median_error": 0.031}
    table = plan_here({"1b": {"rows": rows, "profile_fit": fit}}, {})
    assert len(table) == 1 + 3 + 1
    assert table[-1][-1] == "3.1 %"
