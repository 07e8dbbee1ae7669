"""Weakly-hard budgets: "at most m misses in any K consecutive requests", which is what a control loop can bear."""

import itertools
from dataclasses import dataclass

import numpy as np

from phiedge.acceptance.clusters import Bools
from phiedge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class WeaklyHard:
    """At most `misses` in any `of` consecutive requests."""

    misses: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.misses < self.of:
            raise UsageError(
                f"at most {self.misses} misses in any {self.of} requests says nothing or cannot be",
                remedy="misses must be 0 or more, and less than of",
            )


def violations(missed: Bools, first: Bools, budget: WeaklyHard) -> Bools:
    """At which requests the last `of` of them (since the last restart) had too many misses; bool [n]."""
    starts = [*np.flatnonzero(first).tolist(), missed.size]
    found = np.zeros_like(missed)
    for start, end in itertools.pairwise(starts):
        total = np.concatenate(([0], missed[start:end].cumsum()))
        begin = np.maximum(np.arange(1, end - start + 1) - budget.of, 0)
        found[start:end] = total[1:] - total[begin] > budget.misses
    return found
