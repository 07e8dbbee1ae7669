"""Showing that a miss rate is too high when misses cluster, without knowing how much: an e-process for a Markov chain.

Counting clusters would be slow here, and counting misses would fail a device for one bad moment. This divides how well
the requests were foretold, one by one, from those before (Krichevsky and Trofimov 1981), by how well the best chain
foretells them whose miss rate is not above the limit ("universal inference", Wasserman, Ramdas and Balakrishnan 2020).
If the device keeps the limit, that ratio ever reaches 1/alpha with a probability of at most alpha, at any clustering.
"""

import numpy as np
import numpy.typing as npt

from phiedge.acceptance.clusters import Bools, cluster_trials

Floats = npt.NDArray[np.float64]


def log_capital_for_clustered_fail(missed: Bools, first: Bools, *, rate: float) -> Floats:
    """The log of the ratio after each request; from ln(1/alpha) on, the miss rate is shown to be above `rate`.

    `missed` is bool [..., n]; `first` marks the first request after each restart, of the same shape.
    """
    after_clean = cluster_trials(missed, first)
    clean_miss, clean_hit = _counts(after_clean & missed), _counts(after_clean & ~missed)
    again, ended = _counts(~after_clean & missed), _counts(~after_clean & ~missed)
    foretold = _foretold(clean_miss, clean_hit, missed, after_clean) + _foretold(again, ended, missed, ~after_clean)
    result: Floats = foretold.cumsum(axis=-1) - _best_within(clean_miss, clean_hit, again, ended, rate)
    return result


def _counts(mask: Bools) -> Floats:
    return mask.cumsum(axis=-1).astype(np.float64)


def _foretold(misses: Floats, hits: Floats, missed: Bools, here: Bools) -> Floats:
    """The log probability that was given to each request where `here`, from the counts before it; 0 elsewhere."""
    # The counts include the request itself; taken out again, they are those before it.
    own = np.where(missed, misses, hits) - 1.0
    return np.where(here, np.log(np.maximum(own, 0.0) + 0.5) - np.log(np.maximum(misses + hits, 1.0)), 0.0)


def _best_within(clean_miss: Floats, clean_hit: Floats, again: Floats, ended: Floats, rate: float) -> Floats:
    """The greatest log likelihood of a chain with a miss rate of at most `rate`."""
    best_start = _share(clean_miss, clean_hit)
    best_again = _share(again, ended)
    inside = best_start * (1.0 - rate) <= rate * (1.0 - best_again)
    odds = rate / (1.0 - rate)
    edge_again = _best_on_edge(clean_miss, clean_hit, again, ended, odds)
    best_again = np.where(inside, best_again, edge_again)
    best_start = np.where(inside, best_start, odds * (1.0 - edge_again))
    return (
        _times_log(clean_miss, best_start)
        + _times_log(clean_hit, 1.0 - best_start)
        + _times_log(again, best_again)
        + _times_log(ended, 1.0 - best_again)
    )


def _best_on_edge(clean_miss: Floats, clean_hit: Floats, again: Floats, ended: Floats, odds: float) -> Floats:
    """The rho of the likeliest chain whose miss rate is exactly the limit.

    On that edge a = odds * (1 - rho), and the derivative of the log likelihood by rho vanishes where
    -(ends) rho (1 - odds + odds rho) + clean_hit odds rho (1 - rho) + again (1 - rho) (1 - odds + odds rho) = 0
    with ends = clean_miss + ended: a quadratic which is positive at 0 and negative at 1, so one root lies between.
    """
    ends = clean_miss + ended
    square = -odds * (ends + clean_hit + again)
    linear = -ends * (1.0 - odds) + clean_hit * odds + again * (2.0 * odds - 1.0)
    constant = again * (1.0 - odds)
    root = np.sqrt(np.maximum(linear * linear - 4.0 * square * constant, 0.0))
    # The greater root, in the form that does not subtract nearly equal numbers.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(linear >= 0.0, (-linear - root) / (2.0 * square), 2.0 * constant / (root - linear))
    lowest = max(0.0, 1.0 - 1.0 / odds)  # a is a probability
    best: Floats = np.clip(np.nan_to_num(found, nan=0.0), lowest, 1.0)
    return best


def _share(part: Floats, rest: Floats) -> Floats:
    both = part + rest
    return np.where(both > 0.0, part / np.maximum(both, 1.0), 0.0)


def _times_log(count: Floats, probability: Floats) -> Floats:
    return np.where(count > 0.0, count * np.log(np.maximum(probability, 1e-300)), 0.0)
