import numpy as np
import pytest
import torch

from phiedge.calibration.samples import digest_of, row_roles
from phiedge.errors import InputError


def test_pictures_have_at_most_half_of_all_weight(picture_sample) -> None:
    samples = [picture_sample(str(i), 100, 3600, held_out=i == 7) for i in range(8)]
    roles = row_roles(samples)
    text = sum(float(part.weights[:100].sum()) for part in roles)
    visual = sum(float(part.weights[100:].sum()) for part in roles)
    assert visual == pytest.approx(text, rel=1e-4)


def test_few_rows_of_pictures_count_as_much_as_text(picture_sample) -> None:
    roles = row_roles([picture_sample(str(i), 900, 100, held_out=i == 1) for i in range(3)])
    assert bool((roles[0].weights == 1).all())


def test_held_out_samples_judge_and_do_nothing_else(text_samples) -> None:
    samples = text_samples()
    for sample, roles in zip(samples, row_roles(samples), strict=True):
        assert bool((roles.weights > 0).all()) != sample.held_out
        assert len(roles.searched) == 0 or not sample.held_out
        assert len(roles.held) == 0 or sample.held_out


def test_the_same_rows_are_drawn_again(text_samples) -> None:
    samples = text_samples(count=24)
    first, second = row_roles(samples), row_roles(samples)
    assert all(torch.equal(a.searched, b.searched) for a, b in zip(first, second, strict=True))
    assert sum(len(part.searched) for part in first) == 1024


def test_too_few_rows_are_refused_with_both_numbers(text_samples) -> None:
    with pytest.raises(InputError, match=r"8 samples with 70 rows to calibrate on and 10 to judge by .* at least 1024"):
        row_roles(text_samples(count=8, rows=10))


def test_nothing_to_judge_by_is_refused(text_samples) -> None:
    with pytest.raises(InputError, match="and 0 to judge by"):
        row_roles(text_samples(count=7, rows=400))


def test_the_digest_tells_other_tokens(text_samples) -> None:
    samples, others = text_samples(), text_samples()
    assert digest_of(samples) == digest_of(others)
    others[3].tokens[5] += 1
    assert digest_of(samples) != digest_of(others)
    assert np.array_equal(samples[2].tokens, others[2].tokens)
