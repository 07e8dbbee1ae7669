"""Times between and beyond those that were sampled, and plans that are made of them."""

from dataclasses import replace

import pytest

from phiedge.devices.planning.models import PUBLISHED
from phiedge.devices.planning.sampled import TRIED_ERROR, UNTRIED_ERROR, SampledTimes, error_on, interpolated
from phiedge.devices.planning.speeds import processor_speeds
from phiedge.devices.planning.storage import sizes_of, storage_of
from phiedge.devices.planning.time import Request, TimePlan, plan_time
from phiedge.exporters.precision import choose_precision

SAMPLED = SampledTimes(
    token_ms=((64, 200.0), (1024, 230.0), (4096, 300.0)),
    chunk_ms=((16, 1000.0), (256, 10_000.0)),
    past_ms=((0, 0.0), (768, 768.0)),
    picture_ms=((256, 256.0), (1024, 2048.0)),
    layers=2,
    error=0.25,
)


def planned(sampled: SampledTimes | None, *, read_gbps: float = 60, prompt: int = 512, patches: int = 256) -> TimePlan:
    speeds = processor_speeds(read_gbps=read_gbps, float_gflops=440, int8_gops=1700, quantised=True, sampled=sampled)
    record = choose_precision("int4", sm=None, widths=(PUBLISHED.hidden_size,)).plan.record(embed_tokens="bfloat16")
    sizes = sizes_of(PUBLISHED, storage_of(record, activations="float32"))
    request = Request(patches=(patches,) if patches else (), prompt_tokens=prompt, answer_tokens=2)
    return plan_time(PUBLISHED, sizes, speeds, request)


@pytest.mark.parametrize(("at", "ms"), [(0, 0), (10, 10), (15, 15), (20, 20), (40, 50), (60, 80)])
def test_a_time_lies_on_the_line_through_the_nearest_two(at: int, ms: float) -> None:
    assert interpolated([(10, 10.0), (20, 20.0), (40, 50.0)], at) == ms


def test_a_line_that_falls_ends_at_nothing() -> None:
    assert interpolated([(10, 10.0), (20, 5.0)], 100) == 0
    assert interpolated([(10, 10.0)], 100) == 10


def test_tokens_chunks_and_pictures_are_those_that_were_sampled() -> None:
    assert SAMPLED.token(1024) == 230
    assert SAMPLED.token(544) == 215
    assert SAMPLED.chunk(256, past=0) == 10_000
    assert SAMPLED.chunk(256, past=256) == 10_256
    assert SAMPLED.chunk(128, past=256) == pytest.approx(1000 + 9000 * 112 / 240 + 128)
    assert SAMPLED.picture(1024) == 2048
    # A patch takes 1 ms of 256, and 2 ms of 1024: 1.5 ms of as many as lie between.
    assert SAMPLED.picture(640) == 960


def test_a_plan_goes_by_the_sample_with_its_error_on_both_sides() -> None:
    time = planned(SAMPLED, patches=0)
    assert time.prefill.planned_ms == 10_000 + 10_256
    assert (time.prefill.least_ms, time.prefill.most_ms) == (pytest.approx(15_192), pytest.approx(25_320))
    assert 0 < time.prefill.limit_ms < time.prefill.least_ms
    assert planned(SAMPLED).vision.planned_ms == 256


def test_without_a_sample_of_pictures_they_are_planned_by_the_limit() -> None:
    without = planned(replace(SAMPLED, picture_ms=()))
    assert without.vision == planned(None).vision
    assert without.prefill == planned(SAMPLED).prefill


def test_a_limit_of_memory_does_not_stand_above_what_caches_gave() -> None:
    token = planned(SAMPLED, read_gbps=10).token
    assert token.limit_ms == token.least_ms < token.planned_ms


def test_only_the_processor_where_it_was_tried_has_the_narrow_range() -> None:
    assert error_on("AMD EPYC", 2) == TRIED_ERROR < UNTRIED_ERROR
    assert {error_on("AMD EPYC", 8), error_on("Cortex-A78AE", 12)} == {UNTRIED_ERROR}
