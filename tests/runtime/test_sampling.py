import numpy as np
import pytest

from phiedge.errors import SessionError, UsageError
from phiedge.runtime.sampling import Sampler, Sampling

LOGITS = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))


def draws(sampling: Sampling, count: int, logits: np.ndarray = LOGITS) -> list[int]:
    sampler = Sampler(logits.size)
    sampler.start(sampling)
    return [sampler.choose(logits) for _ in range(count)]


def test_greedy_takes_the_highest_and_of_equals_the_first() -> None:
    assert draws(Sampling(), 1, np.array([0, 7, 7, 1], np.float32)) == [1]


def test_a_seed_gives_the_same_choices_again_and_another_seed_others() -> None:
    first = draws(Sampling(temperature=1.0, seed=5), 50)
    assert draws(Sampling(temperature=1.0, seed=5), 50) == first
    assert draws(Sampling(temperature=1.0, seed=6), 50) != first


def test_choices_follow_the_probabilities() -> None:
    counts = np.bincount(draws(Sampling(temperature=1.0, seed=0), 20_000), minlength=4) / 20_000
    np.testing.assert_allclose(counts, [0.4, 0.3, 0.2, 0.1], atol=0.015)


def test_temperature_sharpens() -> None:
    counts = np.bincount(draws(Sampling(temperature=0.5, seed=0), 20_000), minlength=4) / 20_000
    np.testing.assert_allclose(counts, np.array([16, 9, 4, 1]) / 30, atol=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.05, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.91, 4), (1.0, 4)]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: int) -> None:
    chosen = set(draws(Sampling(temperature=1.0, top_p=top_p, seed=0), 2_000))
    assert chosen == set(range(kept))


@pytest.mark.parametrize(("top_p", "kept"), [(0.2, {0}), (0.26, {0, 1}), (0.51, {0, 1, 2}), (0.9, {0, 1, 2, 3})])
def test_of_equals_at_the_edge_top_p_keeps_the_lowest_ids(top_p: float, kept: set[int]) -> None:
    equal = np.zeros(4, np.float32)
    assert set(draws(Sampling(temperature=1.0, top_p=top_p, seed=0), 500, equal)) == kept


def test_top_p_keeps_proportions() -> None:
    counts = np.bincount(draws(Sampling(temperature=1.0, top_p=0.65, seed=0), 20_000), minlength=4) / 20_000
    np.testing.assert_allclose(counts, [4 / 7, 3 / 7, 0, 0], atol=0.015)


def test_a_large_vocabulary_is_cut_like_a_full_sort_would() -> None:
    logits = np.random.default_rng(3).normal(size=100_352).astype(np.float32) * 3
    order = np.argsort(-logits, kind="stable")
    probabilities = np.exp(logits[order].astype(np.float64))
    cumulative = np.cumsum(probabilities / probabilities.sum())
    nucleus = set(order[: int(np.searchsorted(cumulative, 0.95)) + 1].tolist())
    chosen = set(draws(Sampling(temperature=1.0, top_p=0.95, seed=1), 400, logits))
    assert chosen <= nucleus


def test_a_token_without_probability_is_never_chosen() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf], np.float32)
    assert set(draws(Sampling(temperature=1.0, seed=0), 200, logits)) == {1}


def test_the_logits_stay_as_they_are() -> None:
    logits = LOGITS.copy()
    draws(Sampling(temperature=0.7, top_p=0.9, seed=0), 3, logits)
    assert np.array_equal(logits, LOGITS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(SessionError, match="as the highest logit"):
        draws(Sampling(), 1, np.array([0.0, bad, 1.0], np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1e-9}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p"),
        ({"temperature": 1.0, "seed": -1}, "seed"),
        ({"top_p": 0.9}, "top_p 0.9 has no effect at temperature 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampling(**options)
