"""Whether answers end by their deadlines, how good the latency model is, and what keeping deadlines costs per token.

    python -m benchmarks.deadlines --bundle BUNDLE [--requests 400] [--keep]

A profile is measured first. Then questions about pictures of the reference model's scenes are asked with deadlines that
are drawn from 0.3 to 3 times of what such a request takes typically; idle, and beside processes that compute and move
memory. Refused requests are counted, and come with no answer. An answer is in time if it ended by itself (or by the
ceiling on its tokens) before its deadline.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import phiedge
from benchmarks.record import add_options, publish, summary
from phiedge.reference.scenes import draw_scene
from phiedge.runtime.deadline import Keeper
from phiedge.runtime.drift import Drift
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.pace import ProfiledPace
from phiedge.runtime.plan import Plan
from phiedge.runtime.profile.profiling import measure_profile
from phiedge.runtime.profile.store import write_profile

QUESTIONS = ("How many buttons are there?", "What number is on the display?", "Which colour is the button?")
ANSWER_TOKENS, MAX_NEW_TOKENS = 8, 96
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=400, help="in each condition")
    parser.add_argument("--seconds", type=float, default=60.0, help="of profiling")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--on-infeasible", default="degrade", choices=("refuse", "degrade"))
    add_options(parser)
    options = parser.parse_args()

    bundle = phiedge.Bundle.open(options.bundle)
    profile = measure_profile(bundle, threads=options.threads, seconds=options.seconds)
    write_profile(bundle, profile)
    settings = {
        "requests": options.requests,
        "answer_tokens": ANSWER_TOKENS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "on_infeasible": options.on_infeasible,
        "precision": bundle.manifest.precision.name,
    }
    pictures = [np.asarray(draw_scene(seed, size=(256, 224), place="kiosk").picture) for seed in range(12)]
    with phiedge.Session.open(bundle, threads=options.threads) as session:
        typical_ms = _typical_ms(session, pictures)
        asked = (session, pictures, typical_ms, options)
        idle = _condition(*asked)
        with _neighbours(max(1, (os.cpu_count() or 2) // 2)):
            loaded = _condition(*asked)
    step_ms = profile.model.one_step(400).usual_ms
    publish(
        "deadlines",
        settings,
        {
            "profile": {
                "seconds": profile.seconds,
                "load_average": profile.load_average,
                "median_error": profile.fit.median_error,
                "p95_error": profile.fit.p95_error,
                "within": profile.fit.within,
                "abort_ms": round(profile.model.abort_ms, 2),
                "quantile": profile.model.quantile,
            },
            "typical_ms": round(typical_ms, 2),
            "step_ms": round(step_ms, 3),
            "idle": idle,
            "loaded": loaded,
            "host_us_per_token": _host_us(profile.model),
        },
        keep=options.keep,
    )


def _typical_ms(session: phiedge.Session, pictures: Sequence[np.ndarray]) -> float:
    """What such a request takes without a budget, at the median."""
    times = [
        session.generate(
            QUESTIONS[place % len(QUESTIONS)], [picture], think="on", max_new_tokens=MAX_NEW_TOKENS
        ).timings_ms.total
        for place, picture in enumerate([*pictures, *pictures])
    ]
    return statistics.median(times)


def _condition(
    session: phiedge.Session, pictures: Sequence[np.ndarray], typical_ms: float, options: argparse.Namespace
) -> dict[str, object]:
    """All requests of one condition, one after the other."""
    draw = random.Random(7)
    overruns: list[float] = []
    slacks: list[float] = []
    answered = refused = cut = closed = watched = 0
    late_refusals: list[float] = []
    for _ in range(options.requests):
        deadline_ms = typical_ms * draw.uniform(0.3, 3.0)
        budget = phiedge.Budget(
            deadline_ms=deadline_ms, answer_tokens=ANSWER_TOKENS, on_infeasible=options.on_infeasible
        )
        begun_ns = time.perf_counter_ns()
        try:
            result = session.generate(
                draw.choice(QUESTIONS), [draw.choice(pictures)], think="on", max_new_tokens=MAX_NEW_TOKENS,
                budget=budget,
            )  # fmt: skip
        except phiedge.BudgetError:
            refused += 1
            late_refusals.append((time.perf_counter_ns() - begun_ns) / 1e6)
            continue
        # As the caller sees it: the call itself counts, too.
        late_ms = (time.perf_counter_ns() - begun_ns) / 1e6 - deadline_ms
        overruns.append(max(0.0, late_ms))
        slacks.append(max(0.0, -late_ms))
        answered += result.finish_reason in ("stop", "length") and late_ms <= 0
        cut += result.finish_reason == "deadline"
        closed += result.outcome.thinking_closed is not None
        watched += result.outcome.stopped_by == "watchdog"
    admitted = options.requests - refused
    return {
        "admitted": admitted,
        "refused": refused,
        "refusal_ms": summary(late_refusals) if late_refusals else None,
        "answered_in_time": round(answered / admitted, 4) if admitted else None,
        "cut": cut,
        "thinking_closed": closed,
        "stopped_by_watchdog": watched,
        "late": sum(overrun > 0 for overrun in overruns),
        "overrun_ms": _quantiles(overruns) | {"worst": round(max(overruns, default=0.0), 3)},
        "slack_ms": summary(slacks) if slacks else None,
        "load_average": round(os.getloadavg()[0], 2),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """Those that so many values can tell."""
    ordered = sorted(values)
    return {
        f"p{100 * level:g}": round(ordered[min(len(ordered) - 1, int(level * len(ordered)))], 3)
        for level in QUANTILES
        if len(ordered) * (1 - level) >= 1
    }


def _host_us(model: LatencyModel) -> dict[str, float | int]:
    """What the keeper adds to one token: settling it, observing it, allowing the next."""
    budget = phiedge.Budget(deadline_ms=3_600_000, answer_tokens=ANSWER_TOKENS)
    plan = Plan(
        prompt_tokens=100, visual_tokens=(), asked_visual_tokens=(), max_visual_tokens=None, think="on",
        thinking_tokens=None, answer_tokens=ANSWER_TOKENS, chunk_tokens=model.chunk_tokens,
    )  # fmt: skip
    keeper = Keeper(
        budget=budget, plan=plan, model=model, pace=ProfiledPace(model), drift=Drift(),
        closing=(1,), extending=(), ends=frozenset((2,)), begun_ns=time.perf_counter_ns(),
        clock_ns=time.perf_counter_ns,
    )  # fmt: skip
    samples = []
    for _ in range(200):
        begun_ns = time.perf_counter_ns()
        for context in range(100, 200):
            keeper.allows_step(context)
            keeper.settle(5, thinking=True, thought=3, context=context)
        samples.append((time.perf_counter_ns() - begun_ns) / 100 / 1e3)
    return summary(samples)


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    """Processes beside that stream through more memory than any cache holds."""
    processes = [multiprocessing.get_context("spawn").Process(target=_stream, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _stream() -> None:
    there, here = np.ones(32 << 20, dtype=np.uint64), np.empty(32 << 20, dtype=np.uint64)
    while True:
        np.copyto(here, there)
        np.copyto(there, here)


if __name__ == "__main__":
    main()
