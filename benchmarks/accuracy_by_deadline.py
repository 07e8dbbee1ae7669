"""How often the reference model is right by a deadline: kept by phiedge, and by the means that other runtimes have.

    python -m benchmarks.accuracy_by_deadline --bundle BUNDLE [--per-task 40] [--keep]
    python -m benchmarks.accuracy_by_deadline --plot docs/guides/accuracy-by-deadline.svg

Held-out questions, all asked to think first. An answer counts if it is right and was there by the deadline.
- phiedge: a budget with that deadline that is attempted in any case, in either order of what is given up. Whoever asks
  knows what an answer may take: 20 tokens where to click, and 4 otherwise.
- fixed cap: as many tokens at most as usually fit; what comes late counts as wrong.
- cut when late: no limit; what of the answer was there at the deadline.
- answering at once: the model's own mode without thinking, without a limit.
Deadlines are multiples of what a question takes at the median without any. The second line draws the newest result.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import phiedge
from benchmarks.deadlines import profile_of
from benchmarks.record import add_options, latest, publish
from phiedge.reference.evaluate import held_out
from phiedge.reference.questions import Question
from phiedge.runtime.budget import Sacrifice
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.prompt import ThinkMode
from phiedge.runtime.realtime import RealtimePolicy, apply

TIMES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 3.0)
MAX_NEW_TOKENS, WARM = 160, 6
ANSWER_TOKENS = {"click": 20}  # and 4 for all others
ORDERS: dict[str, tuple[Sacrifice, ...]] = {
    "phiedge": ("visual", "thinking"),
    "phiedge, thinking given up first": ("thinking", "visual"),
}
CAP, CUT, AT_ONCE = "fixed cap", "cut when late", "answering at once"


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
    parser.add_argument("--plot", type=Path, help="only draw the newest result")
    add_options(parser)
    options = parser.parse_args()
    if options.plot is not None:
        plot(options.plot)
        return
    bundle = phiedge.Bundle.open(options.bundle)
    profile = profile_of(bundle, options)
    cases = [Case(picture=np.asarray(picture), question=question) for picture, question in held_out(options.per_task)]
    with phiedge.Session.open(bundle, threads=options.threads) as session:
        apply(RealtimePolicy(freeze_garbage=True))
        for case in cases[:: max(1, len(cases) // WARM)]:
            whole(session, case, think="on")
        thought = [whole(session, case, think="on") for case in cases]
        at_once = [whole(session, case, think="off") for case in cases]
        typical_ms = statistics.median(told.ms for told in thought)
        curves: dict[str, list[float]] = {name: [] for name in (*ORDERS, CAP, CUT, AT_ONCE)}
        for times in TIMES:
            deadline_ms = times * typical_ms
            for name, order in ORDERS.items():
                curves[name].append(_share(kept(session, case, deadline_ms, order) for case in cases))
            cap = _cap(profile.model, deadline_ms)
            curves[CAP].append(_share(capped(session, case, deadline_ms, cap) for case in cases))
            for name, answers in ((CUT, thought), (AT_ONCE, at_once)):
                right = (case.question.accepts(told.by(deadline_ms)) for case, told in zip(cases, answers, strict=True))
                curves[name].append(_share(right))
            print(f"{times} times, {deadline_ms:.1f} ms:", {name: curve[-1] for name, curve in curves.items()})
    publish(
        "accuracy-by-deadline",
        {"questions": len(cases), "precision": bundle.manifest.precision.name},
        {
            "typical_ms": round(typical_ms, 2),
            "times": list(TIMES),
            "deadlines_ms": [round(times * typical_ms, 2) for times in TIMES],
            "right_in_time": curves,
        },
        keep=options.keep,
    )


def whole(session: phiedge.Session, case: Case, *, think: ThinkMode) -> Told:
    """The answer without a limit, as it grows."""
    begun_ns, text, growth = time.perf_counter_ns(), "", [(0.0, "")]
    for event in session.stream(case.question.prompt, [case.picture], think=think, max_new_tokens=MAX_NEW_TOKENS):
        if event.kind == "answer":
            text += event.text
        growth.append(((time.perf_counter_ns() - begun_ns) / 1e6, text))
    return Told(growth=tuple(growth))


def kept(session: phiedge.Session, case: Case, deadline_ms: float, order: tuple[Sacrifice, ...]) -> bool:
    """Whether the answer that phiedge gives by the deadline is right."""
    budget = phiedge.Budget(
        deadline_ms=deadline_ms,
        answer_tokens=ANSWER_TOKENS.get(case.question.task, 4),
        on_infeasible="attempt",
        sacrifices=order,
    )
    begun_ns = time.perf_counter_ns()
    result = session.generate(
        case.question.prompt, [case.picture], think="on", max_new_tokens=MAX_NEW_TOKENS, budget=budget
    )
    in_time = (time.perf_counter_ns() - begun_ns) / 1e6 <= deadline_ms
    return in_time and case.question.accepts(result.answer)


def capped(session: phiedge.Session, case: Case, deadline_ms: float, cap: int) -> bool:
    """Whether the answer with so many tokens at most is right, and there by the deadline."""
    if cap < 1:
        return False
    begun_ns = time.perf_counter_ns()
    result = session.generate(case.question.prompt, [case.picture], think="on", max_new_tokens=cap)
    in_time = (time.perf_counter_ns() - begun_ns) / 1e6 <= deadline_ms
    return in_time and case.question.accepts(result.answer)


def plot(path: Path) -> None:
    """Draw the newest kept result."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    record = latest("accuracy-by-deadline")
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


def _cap(model: LatencyModel, deadline_ms: float) -> int:
    """How many tokens usually fit, for a picture with the most patches and a question of usual length."""
    rows = 256 + 40
    before_ms = (model.around() + model.encoding(256) + model.prefill(rows)).usual_ms
    return int((deadline_ms - before_ms) / model.one_step(rows).usual_ms) + 1


def _share(right: Iterator[bool]) -> float:
    found = list(right)
    return round(sum(found) / len(found), 4)


if __name__ == "__main__":
    main()
