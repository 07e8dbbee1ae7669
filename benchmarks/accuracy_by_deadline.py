"""How often the reference model is right by a deadline: kept by phiedge, and by the means that other runtimes have.

    python -m benchmarks.accuracy_by_deadline --bundle BUNDLE [--per-task 40] [--keep]
    python -m benchmarks.accuracy_by_deadline --bundle BUNDLE --law quiet [--per-task 40] [--keep]
    python -m benchmarks.accuracy_by_deadline --plot docs/guides/accuracy-by-deadline.svg [--law quiet]

Held-out questions, all asked to think first. An answer counts if it is right and was there by the deadline.
- phiedge: a budget with that deadline that is attempted in any case, in either order of what is given up. Whoever asks
  knows what an answer may take: 20 tokens where to click, and 4 otherwise.
- fixed cap: as many tokens at most as usually fit; what comes late counts as wrong.
- cut when late: no limit; what of the answer was there at the deadline.
- answering at once: the model's own mode without thinking, without a limit.
Deadlines are multiples of what a question takes at the median without any. All ways are asked in turns. With `--law`,
every run of an engine takes logical time by a law of `deadlines_simulated`, so that the machine does not matter. Some
of the deadlines may be measured at a time (`--times`); those that are kept on one day are kept together, as multiples
of the same time. The last line draws the newest result.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import phiedge
from benchmarks.deadlines import profile_of
from benchmarks.deadlines_simulated import LAWS, paced
from benchmarks.deadlines_simulated import profile as simulated_profile
from benchmarks.record import add_options, kept_today, latest, publish
from phiedge.reference.evaluate import held_out
from phiedge.reference.questions import Question
from phiedge.runtime.budget import Sacrifice
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.prompt import ThinkMode
from phiedge.runtime.realtime import RealtimePolicy, apply

NAME, SIMULATED = "accuracy-by-deadline", "accuracy-by-deadline-simulated"
TIMES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 3.0)
MAX_NEW_TOKENS, WARM = 160, 6
ANSWER_TOKENS = {"click": 20}  # and 4 for all others
ORDERS: dict[str, tuple[Sacrifice, ...]] = {
    "phiedge": ("thinking", "visual"),
    "phiedge, the picture made smaller first": ("visual", "thinking"),
}
CAP, CUT, AT_ONCE = "fixed cap", "cut when late", "answering at once"
WAYS = (*ORDERS, CAP, CUT, AT_ONCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question about a picture."""

    picture: np.ndarray
    question: Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer as it grew: milliseconds from the call, and what was there then."""

    growth: tuple[tuple[float, str], ...]

    def by(self, ms: float) -> str:
        """What was there so long after the call."""
        return next((text for when, text in reversed(self.growth) if when <= ms), "")

    @property
    def ms(self) -> float:
        return self.growth[-1][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--per-task", type=int, default=40)
    parser.add_argument("--profile-seconds", type=float, default=60.0, help="0 takes the profile in the bundle")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--law", choices=LAWS, help="logical time in place of this machine's")
    parser.add_argument("--times", type=float, nargs="*", default=list(TIMES), help="deadlines, of the usual time")
    parser.add_argument("--plot", type=Path, help="only draw the newest result")
    add_options(parser)
    options = parser.parse_args()
    if options.plot is not None:
        plot(options.plot, NAME if options.law is None else SIMULATED)
        return
    bundle = phiedge.Bundle.open(options.bundle)
    cases = [Case(picture=np.asarray(picture), question=question) for picture, question in held_out(options.per_task)]
    with _opened(bundle, options) as asking:
        for case in cases[:: max(1, len(cases) // WARM)]:
            asking.whole(case, think="on")
        name = NAME if options.law is None else SIMULATED
        settings = {"questions": len(cases), "law": options.law or "", "precision": bundle.manifest.precision.name}
        kept = kept_today(name, settings)
        typical_ms = kept.get("typical_ms") or round(
            statistics.median(asking.whole(case, think="on").ms for case in cases), 2
        )
        points = _points(kept) | {times: _point(asking, cases, times, typical_ms) for times in options.times}
    publish(name, settings, _curves(points, typical_ms), keep=options.keep)


@contextmanager
def _opened(bundle: phiedge.Bundle, options: argparse.Namespace) -> Iterator["Asking"]:
    if options.law is None:
        profile = profile_of(bundle, options)
        with phiedge.Session.open(bundle, threads=options.threads) as session:
            apply(RealtimePolicy(freeze_garbage=True))
            yield Asking(session=session, latency=profile.model, clock_ns=time.perf_counter_ns)
    else:
        of_profile, of_requests = LAWS[options.law]
        latency = simulated_profile(bundle, of_profile())
        with paced(bundle, latency, of_requests()) as (session, clock):
            yield Asking(session=session, latency=latency, clock_ns=clock)


def _point(asking: "Asking", cases: list[Case], times: float, typical_ms: float) -> dict[str, float]:
    """By the name of each way: the share that is right and in time."""
    deadline_ms, right = times * typical_ms, Counter[str]()
    ways: dict[str, Callable[[Case], bool]] = {
        name: partial(asking.kept, deadline_ms=deadline_ms, order=order) for name, order in ORDERS.items()
    } | {
        CAP: partial(asking.capped, deadline_ms=deadline_ms),
        CUT: partial(asking.cut, deadline_ms=deadline_ms, think="on"),
        AT_ONCE: partial(asking.cut, deadline_ms=deadline_ms, think="off"),
    }
    for place, case in enumerate(cases):
        # The first to ask about a picture finds nothing of it in the processor's caches: each is it as often.
        for turn in range(len(WAYS)):
            name = WAYS[(place + turn) % len(WAYS)]
            right[name] += ways[name](case)
    point = {name: round(right[name] / len(cases), 4) for name in WAYS}
    print(f"{times} times, {deadline_ms:.1f} ms: {point}", flush=True)
    return point


def _points(kept: Mapping[str, Any]) -> dict[float, dict[str, float]]:
    """What was kept before, by deadline."""
    curves = kept.get("right_in_time", {})
    return {
        times: {name: curve[place] for name, curve in curves.items()}
        for place, times in enumerate(kept.get("times", ()))
    }


def _curves(points: Mapping[float, Mapping[str, float]], typical_ms: float) -> dict[str, object]:
    times = sorted(points)
    return {
        "typical_ms": typical_ms,
        "times": times,
        "deadlines_ms": [round(each * typical_ms, 2) for each in times],
        "right_in_time": {name: [points[each][name] for each in times] for name in WAYS},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The ways to ask, on one clock."""

    session: phiedge.Session
    latency: LatencyModel
    clock_ns: Callable[[], int]

    def whole(self, case: Case, *, think: ThinkMode) -> Told:
        """The answer without a limit, as it grows."""
        begun_ns, text, growth = self.clock_ns(), "", [(0.0, "")]
        for event in self.session.stream(
            case.question.prompt, [case.picture], think=think, max_new_tokens=MAX_NEW_TOKENS
        ):
            if event.kind == "answer":
                text += event.text
            growth.append(((self.clock_ns() - begun_ns) / 1e6, text))
        return Told(growth=tuple(growth))

    def cut(self, case: Case, deadline_ms: float, think: ThinkMode) -> bool:
        """Whether what is there of an answer without a limit at the deadline is right."""
        return case.question.accepts(self.whole(case, think=think).by(deadline_ms))

    def kept(self, case: Case, deadline_ms: float, order: tuple[Sacrifice, ...]) -> bool:
        """Whether the answer that phiedge gives by the deadline is right."""
        budget = phiedge.Budget(
            deadline_ms=deadline_ms,
            answer_tokens=ANSWER_TOKENS.get(case.question.task, 4),
            on_infeasible="attempt",
            sacrifices=order,
        )
        begun_ns = self.clock_ns()
        result = self.session.generate(
            case.question.prompt, [case.picture], think="on", max_new_tokens=MAX_NEW_TOKENS, budget=budget
        )
        in_time = (self.clock_ns() - begun_ns) / 1e6 <= deadline_ms
        return in_time and case.question.accepts(result.answer)

    def capped(self, case: Case, deadline_ms: float) -> bool:
        """Whether the answer with as many tokens as usually fit is right, and there by the deadline."""
        cap = self._cap(deadline_ms)
        if cap < 1:
            return False
        begun_ns = self.clock_ns()
        result = self.session.generate(case.question.prompt, [case.picture], think="on", max_new_tokens=cap)
        in_time = (self.clock_ns() - begun_ns) / 1e6 <= deadline_ms
        return in_time and case.question.accepts(result.answer)

    def _cap(self, deadline_ms: float) -> int:
        """For a picture with the most patches and a question of usual length."""
        model, rows = self.latency, 256 + 40
        before_ms = (model.around() + model.encoding(256) + model.prefill(rows)).usual_ms
        return int((deadline_ms - before_ms) / model.one_step(rows).usual_ms) + 1


def plot(path: Path, name: str) -> None:
    """Draw the newest kept result."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    record = latest(name)
    if record is None:
        raise SystemExit("error: nothing is kept yet")
    found = record["results"]
    with pyplot.rc_context({"svg.hashsalt": "phiedge", "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = pyplot.subplots(figsize=(7, 4))
        styles = dict(zip(found["right_in_time"], ("o-", "s-", "^--", "v--", "x:"), strict=True))
        for name, curve in found["right_in_time"].items():
            axes.plot(found["deadlines_ms"], [100 * share for share in curve], styles[name], label=name)
        axes.set_xlabel("deadline, ms")
        axes.set_ylabel("right and in time, %")
        axes.set_ylim(0, 100)
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    main()
