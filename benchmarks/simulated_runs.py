"""Campaigns as they would have been measured, made of latencies: without a clock, by the thousand."""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from phiedge.acceptance.budgets import LatencyBudget
from phiedge.acceptance.campaign import Campaign
from phiedge.acceptance.coload import Loads
from phiedge.acceptance.environment import Watched
from phiedge.acceptance.requester import Answered
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Arrival, Spec, Statistics, Workload

Floats = npt.NDArray[np.float64]


def fixed_spec(*, limit_ms: float, quantile: float, allowed_misses: int) -> Spec:
    """One latency budget, one fixed plan."""
    return Spec(
        workloads=(Workload(name="tick", prompt="Hi", arrival=Arrival(kind="closed", pause_ms=0.0)),),
        budgets=(LatencyBudget(workload="tick", metric="e2e_ms", limit_ms=limit_ms, quantile=quantile),),
        statistics=Statistics(allowed_misses=allowed_misses),
    )


def campaign_of(latencies_ms: Floats) -> Campaign:
    """A campaign whose requests took `latencies_ms`, [n], one after the other."""
    begun = np.concatenate(([0.0], latencies_ms.cumsum()))
    return Campaign(
        samples={"tick": tuple(_sample(place, begun[place], took) for place, took in enumerate(latencies_ms))},
        opened_ms=(1.0,),
        cold_start_ms=(),
        loads=Loads(),
        watched=Watched(figures={}, broken=()),
        ended="complete",
        failure=None,
    )


def _sample(place: int, begun_ms: float, took_ms: float) -> Sample:
    intended_ns = round(1e6 * begun_ms)
    answered = Answered(token_ns=(), ended_ns=intended_ns + round(1e6 * took_ms), phases_ms={}, finish="stop")
    return Sample.of(
        answered,
        intended_ns=intended_ns,
        started_ns=intended_ns,
        begun_ns=0,
        start=0,
        first=place == 0,
        deadline_ms=None,
    )


def drifting(rng: np.random.Generator, count: int, *, drift: float, spread: float = 0.2) -> Floats:
    """Latencies [count] of around 50 ms that spread by `spread`, and end by `drift` slower than they began, a share."""
    return 50.0 * np.linspace(1.0, 1.0 + drift, count) * np.exp(spread * rng.standard_normal(count))


def limit_at(rate: float, count: int, *, drift: float, spread: float = 0.2, ends: bool = False) -> float:
    """The limit that such a run misses at `rate` on average, or at its slower end if `ends`."""
    levels = 50.0 * np.linspace(1.0, 1.0 + drift, count)
    if ends:
        levels = levels[[0, -1]].max(keepdims=True)
    low, high = 0.0, 1000.0
    normal = NormalDist()
    for _ in range(60):
        middle = (low + high) / 2
        missed = np.mean([1.0 - normal.cdf(math.log(middle / level) / spread) for level in levels])
        low, high = (middle, high) if missed > rate else (low, middle)
    return high
