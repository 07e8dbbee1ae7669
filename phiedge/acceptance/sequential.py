"""A test of a miss rate that may be looked at after every sample, and stops as soon as it knows: pass or fail.

It is a bet against a hypothesis, at fair odds: from a capital of 1, after each sample the capital is multiplied by the
likelihood ratio of a rate on the other side of the limit. If the hypothesis holds, the capital is expected not to grow
whatever the rate and whenever one stops, so it ever reaches 1/alpha with a probability of at most alpha (Ville 1939;
Wald 1945 for two simple hypotheses; Robbins 1970 and Waudby-Smith and Ramdas 2024 for mixtures and bets). The capital
is spread over several rates, so that no rate need be guessed; for each rate off the limit one of them wins in the end.

It holds if each sample misses with the same probability, whatever came before; `clusters` makes such trials of
misses that cluster.
"""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Shares of the limit, and how the first capital is spread over them. A quarter is put on "never misses", which pays
# most while nothing has missed; the rest is for devices that miss now and then.
_BELOW = ((0.0, 0.25), (0.1, 0.25), (0.2, 0.2), (0.4, 0.15), (0.6, 0.1), (0.8, 0.05))
_ABOVE = ((1.25, 0.05), (1.5, 0.1), (2.0, 0.2), (3.0, 0.2), (5.0, 0.2), (10.0, 0.15), (30.0, 0.1))
_HALFWAY = 0.5  # a multiple of the limit that is no rate any more goes halfway from the limit to 1


def log_capital_for_pass(trials: Counts, misses: Counts, *, rate: float) -> Floats:
    """The log of the capital won against "the miss rate is `rate` or more"; from ln(1/alpha) on, it is less.

    `trials` and `misses` are counts so far, of any one shape.
    """
    return _log_mixture(trials, misses, rate, [(share * rate, weight) for share, weight in _BELOW])


def log_capital_for_fail(trials: Counts, misses: Counts, *, rate: float) -> Floats:
    """The log of the capital won against "the miss rate is `rate` or less"."""
    halfway = rate + _HALFWAY * (1.0 - rate)
    return _log_mixture(trials, misses, rate, [(min(share * rate, halfway), weight) for share, weight in _ABOVE])


def more_trials(trials: int, misses: int, *, rate: float, alpha: float, further_rate: float, most: int) -> int | None:
    """How many more trials would decide, if they miss at `further_rate`; None if not within `most`.

    Towards a pass if `further_rate` is below the limit, towards a fail if it is above.
    """
    assert trials >= 0
    if further_rate == rate or most < 1:
        return None
    capital = log_capital_for_pass if further_rate < rate else log_capital_for_fail
    more = np.unique(np.geomspace(1, most, num=4000).astype(np.int64))
    further = np.floor(further_rate * more).astype(np.int64)
    enough = capital(trials + more, misses + further, rate=rate) >= -np.log(alpha)
    return int(more[np.argmax(enough)]) if enough.any() else None


def _log_mixture(trials: Counts, misses: Counts, rate: float, bets: list[tuple[float, float]]) -> Floats:
    assert 0.0 < rate < 1.0
    hits = np.asarray(trials) - misses
    parts = [
        np.log(weight) + _times_log(misses, other / rate) + hits * (np.log1p(-other) - np.log1p(-rate))
        for other, weight in bets
    ]
    total: Floats = np.logaddexp.reduce(np.stack(np.broadcast_arrays(*parts)), axis=0)
    return total


def _times_log(count: Counts, ratio: float) -> Floats:
    """count * log(ratio), with 0 * log(0) = 0."""
    if ratio > 0.0:
        return np.asarray(count * np.log(ratio), dtype=np.float64)
    return np.where(np.asarray(count) == 0, 0.0, -np.inf)
