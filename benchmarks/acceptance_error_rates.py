"""How often acceptance tests err, over thousands of simulated campaigns, and what the harness adds to a latency.

    python -m benchmarks.acceptance_error_rates --keep

Devices are simulated at the very limit, where a pass and a fail are both errors, with independent and with clustered
misses; beside them stands what plain counting would have said. Others drift while they are measured. The harness is
measured with a requester that does nothing.
"""

import argparse
import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.record import add_options, publish, summary
from benchmarks.simulated_runs import campaign_of, drifting, fixed_spec, limit_at
from phiedge.acceptance.budgets import LatencyBudget
from phiedge.acceptance.campaign import run_campaign
from phiedge.acceptance.clustered_fail import log_capital_for_clustered_fail
from phiedge.acceptance.clusters import cluster_trials, start_rate
from phiedge.acceptance.environment import LinuxWatcher
from phiedge.acceptance.fixed_plan import fixed_plan
from phiedge.acceptance.judgement import EXIT_CODES, judge
from phiedge.acceptance.preconditions import Preconditions
from phiedge.acceptance.requester import Answered, Requester, Turn
from phiedge.acceptance.sequential import log_capital_for_fail, log_capital_for_pass
from phiedge.acceptance.spec import Arrival, Spec, Statistics, Workload

RATE, ALPHA, REQUESTS, PART = 0.01, 0.05, 3000, 500
RHOS = (None, 0.3, 0.5, 0.74)
ENOUGH = math.log(1 / ALPHA)
DRIFTS, QUANTILE, RUN = (-0.3, -0.14, 0.0, 0.15, 0.3, 0.45, 1.0), 0.9, 103

Bools = npt.NDArray[np.bool_]


def streams(rng: np.random.Generator, rho: float | None) -> Bools:
    """Misses [PART, REQUESTS] at the limit; one follows another with `rho`."""
    draws = rng.random((PART, REQUESTS))
    if rho is None:
        return draws < RATE
    missed = np.zeros((PART, REQUESTS), dtype=np.bool_)
    missed[:, 0] = draws[:, 0] < RATE
    for place in range(1, REQUESTS):
        missed[:, place] = draws[:, place] < np.where(missed[:, place - 1], rho, RATE * (1 - rho) / (1 - RATE))
    return missed


def errors(missed: Bools, rho: float | None) -> dict[str, Bools]:
    """Which campaigns of [PART] err, by the test that errs."""
    first = np.zeros_like(missed)
    first[:, 0] = True
    trials = np.ones_like(missed) if rho is None else cluster_trials(missed, first)
    rate = start_rate(RATE, rho or 0.0)
    count, misses, every = trials.cumsum(axis=1), (trials & missed).cumsum(axis=1), np.arange(1, REQUESTS + 1)
    plan, plain = (fixed_plan(rate=of, alpha=ALPHA, allowed_misses=2) for of in (rate, RATE))
    blocks = fixed_plan(rate=RATE, alpha=ALPHA, allowed_misses=0).trials
    if rho is None:
        fail = log_capital_for_fail(every, missed.cumsum(axis=1), rate=RATE)
    else:
        fail = log_capital_for_clustered_fail(missed, first, rate=RATE)
    full = (count >= plan.trials).argmax(axis=1)
    return {
        "sequential pass": (log_capital_for_pass(count, misses, rate=rate) >= ENOUGH).any(axis=1),
        "sequential fail": (fail >= ENOUGH).any(axis=1),
        "fixed pass, 2 misses allowed": np.take_along_axis(misses, full[:, None], axis=1)[:, 0] <= 2,
        "fixed pass, blocks of 10": ~missed[:, : 10 * blocks].any(axis=1),
        "plain counting, fixed pass": missed[:, : plain.trials].sum(axis=1) <= 2,
        "plain counting, sequential pass": (
            log_capital_for_pass(every, missed.cumsum(axis=1), rate=RATE) >= ENOUGH
        ).any(axis=1),
    }


def error_rates(campaigns: int) -> dict[str, dict[str, float]]:
    """The share of campaigns that err, by clustering and test."""
    rates = {}
    for place, rho in enumerate(RHOS):
        rng = np.random.default_rng(place)
        parts = [errors(streams(rng, rho), rho) for _ in range(campaigns // PART)]
        name = "independent" if rho is None else f"rho {rho}"
        rates[name] = {test: round(float(np.mean([part[test] for part in parts])), 4) for test in parts[0]}
    return rates


class Nothing:
    """Answers at once."""

    def request(self, workload: Workload, turn: Turn) -> Answered:
        token_ns = (time.perf_counter_ns(),)
        return Answered(token_ns=token_ns, ended_ns=time.perf_counter_ns(), phases_ms={}, finish="stop")


def harness_us(requests: int) -> dict[str, dict[str, float | int]]:
    """Microseconds that a request which does nothing was late, and that it then took: what the harness adds to both."""
    nothing = Nothing()

    @contextlib.contextmanager
    def opened() -> Iterator[Requester]:
        yield nothing

    spec = Spec(
        workloads=(Workload(name="nothing", prompt="nothing", arrival=Arrival(kind="periodic", period_ms=10.0)),),
        budgets=(LatencyBudget(workload="*", metric="e2e_ms", limit_ms=1000.0, quantile=0.99999),),
        statistics=Statistics(plan="sequential", max_requests=requests),
    )
    samples = run_campaign(spec, opened, LinuxWatcher(Preconditions())).samples["nothing"]
    return {
        "late": summary([1e3 * sample.late_ms for sample in samples], digits=1),
        "around": summary([1e3 * (sample.e2e_ms - sample.late_ms) for sample in samples], digits=1),
    }


def drift_verdicts(campaigns: int) -> dict[str, dict[str, dict[str, float]]]:
    """The share of each verdict on machines that drift, by the drift and by where the limit lies."""
    found = {}
    for drift in DRIFTS:
        limits = {
            "missed at the limit on average": limit_at(1 - QUANTILE, RUN, drift=drift),
            "missed at the limit at its slower end": limit_at(1 - QUANTILE, RUN, drift=drift, ends=True),
            "ten times the latency": 500.0,
        }
        found[f"{100 * drift:+.0f} %"] = {name: _verdicts(drift, limit, campaigns) for name, limit in limits.items()}
    return found


def _verdicts(drift: float, limit_ms: float, campaigns: int) -> dict[str, float]:
    rng = np.random.default_rng(7)
    spec = fixed_spec(limit_ms=limit_ms, quantile=QUANTILE, allowed_misses=5)
    runs = (campaign_of(drifting(rng, RUN, drift=drift)) for _ in range(campaigns))
    count = Counter(judge(spec, run).verdict for run in runs)
    return {verdict: round(count[verdict] / campaigns, 4) for verdict in EXIT_CODES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--campaigns", type=int, default=10_000)
    parser.add_argument("--drifting", type=int, default=1000, help="campaigns of each kind on machines that drift")
    parser.add_argument("--requests", type=int, default=2000, help="with which the harness is measured")
    add_options(parser)
    options = parser.parse_args()
    settings = {
        "campaigns": options.campaigns,
        "drifting": options.drifting,
        "miss_rate": RATE,
        "alpha": ALPHA,
        "requests": REQUESTS,
    }
    results = {
        "monte_carlo_error": round(math.sqrt(ALPHA * (1 - ALPHA) / options.campaigns), 4),
        "wrong": error_rates(options.campaigns),
        "drift": drift_verdicts(options.drifting),
        "harness_us": harness_us(options.requests),
    }
    publish("acceptance-error-rates", settings, results, keep=options.keep)


if __name__ == "__main__":
    main()
