"""Whether answers end by their deadlines, how good the latency model is, and what keeping deadlines costs per token.

    python -m benchmarks.deadlines --bundle BUNDLE [--conditions idle cpu memory] [--realtime] [--requests 10000]

A profile is measured first, on the machine as it is, unless `--profile-seconds 0` takes the one in the bundle. Then
questions about pictures of the reference model's scenes are asked with deadlines that are drawn from 0.3 to 3 times of
what such a request takes typically: idle, beside processes that compute, beside processes that move memory. Conditions
may be measured one at a time; those that are kept on one day are kept together. With `--realtime` the process asks the
system for real-time scheduling and locked memory first, is profiled so, and rests between requests, as the system stops
real-time threads that never wait; these conditions are kept beside the others.

Refused requests are counted, and come with no answer. Each is then asked again in the least way and without a budget,
which tells whether there would have been time. An answer is in time if it ended by itself (or by the ceiling on its
tokens) before its deadline; it is there if it ended, or has all the tokens that room was kept for.
"""

import argparse
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import phiedge
from benchmarks.neighbours import CONDITIONS, neighbours
from benchmarks.record import add_options, kept_today, publish, summary
from phiedge.reference.scenes import draw_scene
from phiedge.runtime.deadline import Keeper
from phiedge.runtime.drift import Drift
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.pace import ProfiledPace
from phiedge.runtime.plan import Plan
from phiedge.runtime.profile.profiling import measure_profile
from phiedge.runtime.profile.store import Profile, write_profile
from phiedge.runtime.realtime import RealtimePolicy, Report

NAME = "deadlines"
QUESTIONS = ("How many buttons are there?", "What number is on the display?", "Which colour is the button?")
SIZES = ((256, 224), (224, 160), (256, 256), (192, 192))
ANSWER_TOKENS, MAX_NEW_TOKENS = 8, 96
QUANTILES = (0.5, 0.99, 0.999)
SHORTEST, LONGEST = 0.3, 3.0
PLAIN = RealtimePolicy(freeze_garbage=True)
REALTIME = RealtimePolicy(fifo_priority=10, lock_memory=True, freeze_garbage=True)
REST_S = 0.004


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--conditions", nargs="*", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--requests", type=int, default=10_000, help="in each condition")
    parser.add_argument("--profile-seconds", type=float, default=60.0, help="0 takes the profile in the bundle")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--on-infeasible", default="degrade", choices=("refuse", "degrade"))
    parser.add_argument("--realtime", action="store_true", help="with real-time scheduling and locked memory")
    add_options(parser)
    options = parser.parse_args()

    bundle, policy = phiedge.Bundle.open(options.bundle), REALTIME if options.realtime else PLAIN
    profile = profile_of(bundle, options, realtime=policy)
    settings = {
        "requests": options.requests,
        "answer_tokens": ANSWER_TOKENS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "on_infeasible": options.on_infeasible,
        "precision": bundle.manifest.precision.name,
    }
    beside = ", real-time" if options.realtime else ""
    results: dict[str, object] = {f"profile{beside}": _told(profile)}
    pictures = [
        np.asarray(draw_scene(seed, size=SIZES[seed % len(SIZES)], place="kiosk").picture) for seed in range(24)
    ]
    with phiedge.Session.open(bundle, threads=options.threads, realtime=policy) as session:
        typical_ms = _typical_ms(session, pictures)
        results |= {
            f"typical_ms{beside}": round(typical_ms, 2),
            f"step_ms{beside}": round(profile.model.one_step(400).usual_ms, 3),
            f"asked_of_system{beside}": _reports(session.realtime),
        }
        if not options.realtime:
            results["host_us_per_token"] = _host_us(profile.model)
        for condition in options.conditions:
            with neighbours(condition):
                asked = _Asked(session=session, pictures=pictures, typical_ms=typical_ms, options=options)
                results[f"{condition}{beside}"] = asked.all()
    publish(NAME, settings, kept_today(NAME, settings) | results, keep=options.keep)


def profile_of(
    bundle: phiedge.Bundle, options: argparse.Namespace, *, realtime: RealtimePolicy | None = None
) -> Profile:
    """One that is measured now and stored, or the one that the bundle has of this machine."""
    if options.profile_seconds > 0:
        profile = measure_profile(bundle, threads=options.threads, seconds=options.profile_seconds, realtime=realtime)
        write_profile(bundle, profile)
        return profile
    any_budget = phiedge.Budget(deadline_ms=1000)  # a session looks for its profile only with one
    with phiedge.Session.open(bundle, threads=options.threads, budget=any_budget, realtime=realtime) as session:
        if session.profile is None:
            raise SystemExit("error: the bundle has no profile of this machine; measure one: --profile-seconds 60")
        return session.profile


def _reports(reports: Sequence[Report]) -> list[str]:
    return [f"{report.wish}: {report.status}, {report.detail}" for report in reports]


def _told(profile: Profile) -> dict[str, object]:
    model, fit = profile.model, profile.fit
    return {
        "seconds": profile.seconds,
        "load_average": profile.load_average,
        "requests": fit.requests,
        "median_error": fit.median_error,
        "p95_error": fit.p95_error,
        "median_error_as_forecast": fit.median_error_as_forecast,
        "p95_error_as_forecast": fit.p95_error_as_forecast,
        "within": fit.within,
        "joint": round(model.joint, 3),
        "joint_quantile": model.joint_quantile,
        "abort_ms": round(model.abort_ms, 2),
        "quantile": model.quantile,
    }


def _typical_ms(session: phiedge.Session, pictures: Sequence[np.ndarray]) -> float:
    """What such a request takes without a budget, at the median."""
    times = [
        session.generate(
            QUESTIONS[place % len(QUESTIONS)], [picture], think="on", max_new_tokens=MAX_NEW_TOKENS
        ).timings_ms.total
        for place, picture in enumerate([*pictures, *pictures])
    ]
    return statistics.median(times)


@dataclass(slots=True, kw_only=True)
class _Asked:
    """The requests of one condition, one after the other, and what became of them."""

    session: phiedge.Session
    pictures: Sequence[np.ndarray]
    typical_ms: float
    options: argparse.Namespace
    counts: Counter[str] = field(default_factory=Counter)
    overruns_ms: list[float] = field(default_factory=list)
    slacks_ms: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    profile_errors: list[float] = field(default_factory=list)
    refusals_ms: list[float] = field(default_factory=list)
    late_in: Counter[str] = field(default_factory=Counter)

    def all(self) -> dict[str, object]:
        draw, rest = random.Random(7), threading.Event()
        begun_s = time.perf_counter()
        for _ in range(self.options.requests):
            if self.options.realtime:
                rest.wait(REST_S)
            deadline_ms = self.typical_ms * draw.uniform(SHORTEST, LONGEST)
            self._ask(draw.choice(QUESTIONS), draw.choice(self.pictures), deadline_ms)
        return self._told() | {"seconds": round(time.perf_counter() - begun_s, 1)}

    def _ask(self, question: str, picture: np.ndarray, deadline_ms: float) -> None:
        budget = phiedge.Budget(
            deadline_ms=deadline_ms, answer_tokens=ANSWER_TOKENS, on_infeasible=self.options.on_infeasible
        )
        begun_ns = time.perf_counter_ns()
        try:
            result = self.session.generate(
                question, [picture], think="on", max_new_tokens=MAX_NEW_TOKENS, budget=budget
            )
        except phiedge.BudgetError:
            self.refusals_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
            self._ask_in_the_least_way(question, picture, deadline_ms)
            return
        # As the caller sees it: the call itself counts, too.
        late_ms = (time.perf_counter_ns() - begun_ns) / 1e6 - deadline_ms
        self.overruns_ms.append(max(0.0, late_ms))
        self.slacks_ms.append(max(0.0, -late_ms))
        self._count(result, late_ms)

    def _count(self, result: phiedge.Result, late_ms: float) -> None:
        ended = result.finish_reason in ("stop", "length") and late_ms <= 0
        outcome, forecast = result.outcome, result.plan.forecast
        self.counts.update(
            answered=ended,
            there=ended or result.tokens.answer >= ANSWER_TOKENS,
            cut=result.finish_reason == "deadline",
            closed=outcome.thinking_closed is not None,
            watched=outcome.stopped_by == "watchdog",
            late=late_ms > 0,
            smaller="visual" in result.plan.given_up,
            unthought="thinking" in result.plan.given_up,
        )
        if late_ms > 0:
            self.late_in[_late_in(result)] += 1
        if result.timings_ms.first_token is not None:
            spent_ms = result.timings_ms.first_token
            by_profile_ms = forecast.spent + (forecast.usual_first_token - forecast.spent) / forecast.lately
            self.errors.append(abs(forecast.usual_first_token - spent_ms) / spent_ms)
            self.profile_errors.append(abs(by_profile_ms - spent_ms) / spent_ms)

    def _ask_in_the_least_way(self, question: str, picture: np.ndarray, deadline_ms: float) -> None:
        """As it would have been answered: what degrading may give up is given up, and the room is used."""
        least = {"think": "off", "max_visual_tokens": self.session.bundle.manifest.facts.min_num_patches}
        whole = least if self.options.on_infeasible == "degrade" else {"think": "on"}
        result = self.session.generate(question, [picture], max_new_tokens=ANSWER_TOKENS, **whole)
        self.counts["time_for_refused"] += result.timings_ms.total <= deadline_ms

    def _told(self) -> dict[str, object]:
        admitted, counts = len(self.overruns_ms), self.counts
        refused = self.options.requests - admitted
        return {
            "admitted": admitted,
            "refused": refused,
            "refused_with_time": counts["time_for_refused"],
            "refusal_ms": summary(self.refusals_ms) if self.refusals_ms else None,
            "answered_in_time": round(counts["answered"] / admitted, 4) if admitted else None,
            "there_in_time": round(counts["there"] / admitted, 4) if admitted else None,
            "cut": counts["cut"],
            "made_smaller": counts["smaller"],
            "thinking_given_up": counts["unthought"],
            "thinking_closed": counts["closed"],
            "stopped_by_watchdog": counts["watched"],
            "late": counts["late"],
            "late_in": dict(self.late_in),
            "overrun_ms": _quantiles(self.overruns_ms) | {"worst": round(max(self.overruns_ms, default=0.0), 3)},
            "slack_ms": summary(self.slacks_ms) if self.slacks_ms else None,
            "first_token_error": _middle_and_p95(self.errors),
            "first_token_error_by_profile_alone": _middle_and_p95(self.profile_errors),
            "load_average": round(os.getloadavg()[0], 2),
        }


def _late_in(result: phiedge.Result) -> str:
    """Where a late request was when its deadline passed."""
    first_ms, deadline_ms = result.timings_ms.first_token, result.budget.deadline_ms
    if first_ms is None or first_ms > deadline_ms:
        return "prompt"
    return "tokens" if result.outcome.overrun_ms > 0 else "result"


def _middle_and_p95(errors: Sequence[float]) -> dict[str, float] | None:
    ordered = sorted(errors)
    if not ordered:
        return None
    return {"median": round(statistics.median(ordered), 4), "p95": round(ordered[int(0.95 * len(ordered))], 4)}


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


if __name__ == "__main__":
    main()
