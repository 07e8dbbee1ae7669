from dataclasses import replace

import pytest

from phiedge.bundle import ModelFacts
from phiedge.errors import ContextLengthError, UsageError
from phiedge.runtime.bench.plan import plan_bench


@pytest.fixture
def facts(plain_manifest) -> ModelFacts:
    return replace(plain_manifest.facts, patch_size=16, min_num_patches=256, max_num_patches=3600)


def test_lengths_that_nobody_named_grow_fourfold_up_to_the_context(facts: ModelFacts) -> None:
    plan = plan_bench(facts, max_context=4096)
    assert plan.contexts == plan.prefill == (64, 256, 1024, 4096)
    assert not plan.prefill_asked
    assert not plan.pictures_asked


def test_a_context_between_the_steps_is_measured_at_its_end(facts: ModelFacts) -> None:
    assert plan_bench(facts, max_context=100).contexts == (64, 100)
    assert plan_bench(facts, max_context=8).contexts == (8,)


def test_pictures_that_nobody_named_are_those_that_fit(facts: ModelFacts) -> None:
    names = {case.name: case.grid.tokens for case in plan_bench(facts, max_context=4096).pictures}
    assert names == {"256x256": 256, "640x480": 1200, "1280x720": 3600}
    assert [case.name for case in plan_bench(facts, max_context=2000).pictures] == ["256x256", "640x480"]


def test_of_pictures_that_become_as_many_patches_one_is_measured(facts: ModelFacts) -> None:
    small = replace(facts, min_num_patches=16, max_num_patches=16)
    plan = plan_bench(small, max_context=64)
    assert len({case.grid.tokens for case in plan.pictures}) == len(plan.pictures)
    assert "1280x720" in {case.name for case in plan.pictures}


def test_what_was_named_is_sorted_and_measured_once(facts: ModelFacts) -> None:
    plan = plan_bench(
        facts, max_context=4096, contexts=[100, 7, 100], prefill=[9], pictures=["640x480", "256x256", "640x480"]
    )
    assert plan.contexts == (7, 100)
    assert plan.prefill == (9,)
    assert plan.prefill_asked
    assert [case.name for case in plan.pictures] == ["256x256", "640x480"]
    assert plan.pictures_asked


@pytest.mark.parametrize("lengths", [[0], [64, -1]])
def test_a_length_of_nothing_is_refused(facts: ModelFacts, lengths: list[int]) -> None:
    with pytest.raises(UsageError, match="at least 1 position"):
        plan_bench(facts, max_context=64, contexts=lengths)
    with pytest.raises(UsageError, match="at least 1 position"):
        plan_bench(facts, max_context=64, prefill=lengths)


def test_a_length_beyond_the_context_is_refused_with_both_numbers(facts: ModelFacts) -> None:
    with pytest.raises(ContextLengthError, match="a context of 65 positions was asked, the session has 64"):
        plan_bench(facts, max_context=64, contexts=[65])


def test_a_picture_that_does_not_fit_the_context_is_refused_with_both_numbers(facts: ModelFacts) -> None:
    with pytest.raises(ContextLengthError, match="1280x720 becomes 3600 positions, the context has 2048"):
        plan_bench(facts, max_context=2048, pictures=["1280x720"])


@pytest.mark.parametrize(
    "size", ["", "12", "axb", "0x10", "10x0", "10x-1", "99999x1", "1 0x10", "10x10x10", "\u0661x\u0661"]
)
def test_what_is_not_the_size_of_a_picture_is_refused(facts: ModelFacts, size: str) -> None:
    with pytest.raises(UsageError, match="not the size of a picture"):
        plan_bench(facts, max_context=4096, pictures=[size])


@pytest.mark.parametrize("options", [{"steps": 0}, {"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("nan")}])
def test_no_steps_and_no_time_are_refused(facts: ModelFacts, options) -> None:
    with pytest.raises(UsageError, match="must be"):
        plan_bench(facts, max_context=64, **options)


def test_an_empty_plan_is_refused(facts: ModelFacts) -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        plan_bench(facts, max_context=64, contexts=[], prefill=[], pictures=[])
