from collections.abc import Iterator
from pathlib import Path

import pytest

from phiedge.calibration.samples import FEWEST_ROWS, Kind
from phiedge.errors import InputError, UsageError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.pipeline.builtin_samples import MOST_EXAMPLES, builtin_count, builtin_samples

MOST_PATCHES = 3600  # of a picture of the published model


@pytest.fixture(scope="module")
def large_pictures(tiny_checkpoint: Path) -> Iterator[Checkpoint]:
    """A small model that takes pictures as large as the published one does; each byte of a text is a token."""
    with open_checkpoint(tiny_checkpoint) as checkpoint:
        assert checkpoint.config.max_num_patches == MOST_PATCHES
        yield checkpoint


@pytest.mark.parametrize("max_context", [2048, 1024])
def test_pictures_are_smaller_where_the_context_is(large_pictures: Checkpoint, max_context: int) -> None:
    samples = builtin_samples(large_pictures, max_context=max_context, count=32)
    assert len(samples) == 32, "none had to be left out"
    visual = [int((sample.kinds == Kind.VISUAL).sum()) for sample in samples]
    assert max_context // 4 < max(visual) <= max_context // 2
    assert max(sample.rows for sample in samples) <= max_context


def test_a_context_that_holds_the_largest_picture_gets_it(large_pictures: Checkpoint) -> None:
    samples = builtin_samples(large_pictures, max_context=8192, count=32)
    most = max(int((sample.kinds == Kind.VISUAL).sum()) for sample in samples)
    assert 0.9 * MOST_PATCHES < most <= MOST_PATCHES


def test_what_does_not_fit_in_any_size_is_left_out_and_one_in_eight_of_the_rest_judges(
    large_pictures: Checkpoint,
) -> None:
    samples = builtin_samples(large_pictures, max_context=400)
    assert FEWEST_ROWS < sum(sample.rows for sample in samples) < 128 * 400
    assert len(samples) < 128
    assert max(sample.rows for sample in samples) <= 400
    assert abs(sum(sample.held_out for sample in samples) - len(samples) / 8) <= 1


def test_a_context_that_holds_too_few_is_refused_with_both_numbers(large_pictures: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"0 of 16 builtin examples fit a context of 16, with 0 rows") as refused:
        builtin_samples(large_pictures, max_context=16, count=16)
    assert "--max-context" in str(refused.value.remedy)


def test_how_many_examples_are_made_can_be_asked_for() -> None:
    asked = {word: builtin_count(word) for word in ("builtin", "builtin:8", "builtin:512", "none", "mine.jsonl")}
    assert asked == {"builtin": 128, "builtin:8": 8, "builtin:512": 512, "none": None, "mine.jsonl": None}


@pytest.mark.parametrize("count", ["", "7", "-1", "1e3", "many", "²", str(MOST_EXAMPLES + 1)])
def test_a_number_of_examples_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(UsageError, match="asks for no number of examples from 8 to 4096"):
        builtin_count(f"builtin:{count}")
