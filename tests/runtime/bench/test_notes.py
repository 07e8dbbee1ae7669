from dataclasses import replace

import pytest

from phiedge.devices.host import Disturbance, Host
from phiedge.devices.roofline import Limit
from phiedge.engines.machine_rates import MachineRates
from phiedge.runtime.bench.notes import notes_on_cases, notes_on_conditions
from phiedge.runtime.bench.report import Beside, DecodeCase, PrefillCase, Setting
from phiedge.runtime.bench.spread import Spread

HOST = Host(
    cpu="a processor",
    cores=2,
    memory_bytes=2**33,
    last_level_cache_bytes=2**25,
    clock_mhz=None,
    governor=None,
    load_average_1m=0.1,
    kernel="6.1",
)
SETTING = Setting(
    bundle="bundle",
    model="model",
    precision="int4",
    group_size=32,
    backend="onnxruntime",
    threads=2,
    max_context=64,
    chunk_tokens=16,
    weights_bytes=2**30,
    position_bytes=32,
    versions={},
)
MANY = Spread.of([1.0] * 100)


def decode_case(**changes) -> DecodeCase:
    case = DecodeCase(
        context=64,
        ms=MANY,
        host_us=MANY,
        tokens_per_s=1000.0,
        read_bytes=1,
        limit=None,
        disturbance=Disturbance(minor_faults=0, major_faults=0, involuntary_switches=0),
    )
    return replace(case, **changes)


def test_a_quiet_machine_needs_no_note(rates: MachineRates) -> None:
    assert notes_on_conditions(HOST, rates, SETTING) == []
    assert notes_on_cases((), (), (decode_case(),)) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (replace(HOST, load_average_1m=1.2), "load average 1.2 on 2 cores"),
        (replace(HOST, governor="powersave"), "the clock governor is 'powersave'"),
        (replace(HOST, last_level_cache_bytes=2**31), "fit the last cache"),
    ],
)
def test_what_makes_figures_doubtful_is_told(rates: MachineRates, host: Host, expected: str) -> None:
    (note,) = notes_on_conditions(host, rates, SETTING)
    assert expected in note


def test_the_governor_that_keeps_the_clock_needs_no_note(rates: MachineRates) -> None:
    assert notes_on_conditions(replace(HOST, governor="performance"), rates, SETTING) == []


def test_an_unsteady_rate_is_told_with_both_figures(rates: MachineRates) -> None:
    unsteady = replace(rates, read_gbps=replace(rates.read_gbps, median=30.0))
    (note,) = notes_on_conditions(HOST, unsteady, SETTING)
    assert "50 GB/s at best, but at 30 in the median of 10" in note


def test_without_rates_it_is_told_that_there_are_no_limits() -> None:
    (note,) = notes_on_conditions(HOST, None, SETTING)
    assert "there are no limits" in note


def test_few_samples_pages_from_disk_and_a_passed_limit_are_told() -> None:
    few = PrefillCase(tokens=4, chunks=1, ms=Spread.of([1.0]), tokens_per_s=4000.0, limit=None)
    assert "from 100 samples on" in notes_on_cases((), (few,), ())[0]
    faults = Disturbance(minor_faults=9, major_faults=3, involuntary_switches=0)
    assert "3 pages were read from disk" in notes_on_cases((), (), (decode_case(disturbance=faults),))[0]
    passed = Beside.of(Limit(ms=2.0, bound="memory"), 1.0)
    assert "a limit was passed" in notes_on_cases((), (), (decode_case(limit=passed),))[0]
