"""Deadlines under laws of latency that are known: how often a promise is kept, and what is refused for nothing.

    python -m benchmarks.deadlines_simulated --bundle BUNDLE [--requests 2000] [--keep]

Everything but the engines is what runs on a device: admission, the keeper, the profile's own fitting. The engines move
a logical clock on by a law and by what disturbs it, so that the machine this runs on does not matter, and every run
gives the same figures. Answers are as long as the room that is kept for them at most: what is not whole came too late.
"""

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import phiedge
from benchmarks.record import add_options, publish
from phiedge.engines.interface import Engines, RunStoppedError
from phiedge.progress import silent
from phiedge.runtime import loaded_model
from phiedge.runtime.control import Control
from phiedge.runtime.latency_model import LatencyModel, chunk_features, step_features, vision_features
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.profile.fitting import fit_part, run_excess
from phiedge.runtime.profile.profiling import measure_requests
from phiedge.runtime.session import Session

VISION_MS, CHUNK_MS, STEP_MS = (1.0, 0.02), (0.2, 0.01), (0.21, 2e-5)
ANSWER_TOKENS, TYPICAL_MS = 8, 17.0
PICTURE = np.zeros((224, 256, 3), dtype=np.uint8)
FILLER = 20


@dataclass(slots=True, kw_only=True)
class Law:
    """How much longer than the plain law everything takes.

    `factor` by the time that has passed, `spread` of single runs, and pauses: so many in a second of work, so long.
    """

    factor: Callable[[float], float] = lambda seconds: 1.0
    spread: float = 0.03
    pauses_hz: float = 2.0
    pause_ms: float = 0.5
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def ms(self, plain_ms: float, seconds: float) -> float:
        """What takes `plain_ms` by the plain law, so many seconds after the start."""
        ms = plain_ms * self.factor(seconds) * math.exp(self.draw.gauss(0, self.spread))
        if self.draw.random() < self.pauses_hz * ms / 1e3:
            ms += self.draw.expovariate(1 / self.pause_ms)
        return ms


def _bursts(seconds: float) -> float:
    """Half of the time twice as slow, for as long as a few requests each."""
    return 2.0 if math.sin(17 * seconds) + math.sin(5.3 * seconds) > 0.4 else 1.0


LAWS: dict[str, tuple[Callable[[], Law], Callable[[], Law]]] = {
    # The law of the profile, and of the requests.
    "quiet": (Law, Law),
    "pauses": (Law, lambda: Law(pauses_hz=20, pause_ms=3)),
    "profiled with pauses": (lambda: Law(pauses_hz=20, pause_ms=3), lambda: Law(pauses_hz=20, pause_ms=3)),
    "twice as slow": (Law, lambda: Law(factor=lambda _: 2.0, pauses_hz=10, pause_ms=1)),
    "drift to 1.5": (Law, lambda: Law(factor=lambda seconds: min(1.5, 1 + seconds / 40))),
    "bursts": (Law, lambda: Law(factor=_bursts, spread=0.06)),
    "profiled in bursts": (lambda: Law(factor=_bursts, spread=0.06), lambda: Law(factor=_bursts, spread=0.06)),
}


class _Clock:
    """Moves on by what is computed, and by a microsecond whenever it is read."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    @property
    def seconds(self) -> float:
        return self.now_ns / 1e9


class _Engine:
    """Takes time by a law; says thinking, its end, an answer and its end, whoever ends the thinking."""

    def __init__(self, clock: _Clock, hidden: int, vocab: int) -> None:
        self.input_dtype = self.output_dtype = np.dtype(np.float32)
        self.row = np.zeros(hidden, np.float32)
        self.capacity, self.cache_bytes, self.run_ns = 4096, 0, 0
        self.law, self.due_ns = Law(), math.inf
        self._clock, self._logits = clock, np.zeros(vocab, np.float32)
        self._said, self._next = 0, FILLER

    def encode(self, patches: Any, positions: Any, out: Any) -> None:
        self._take(VISION_MS[0] + VISION_MS[1] * len(patches))

    def prefill(self, embeddings: Any, *, past: int) -> Any:
        self._take(CHUNK_MS[0] + CHUNK_MS[1] * len(embeddings))
        return self._say()

    def step(self, *, past: int) -> Any:
        self._take(STEP_MS[0] + STEP_MS[1] * past)
        return self._say()

    def expect(self, token: int) -> None:
        """Make this the likeliest token from now on."""
        self._next = token

    def assume(self, length: int) -> None:
        pass

    def stop(self) -> None:
        pass

    def rearm(self) -> None:
        pass

    def _take(self, plain_ms: float) -> None:
        ends_ns = self._clock.now_ns + int(1e6 * self.law.ms(plain_ms, self._clock.seconds))
        if ends_ns > self.due_ns:
            # The watchdog's part: an engine ends half a step after it was told to.
            self._clock.now_ns = int(max(self._clock.now_ns, self.due_ns) + 5e5 * STEP_MS[0])
            raise RunStoppedError
        self._clock.now_ns = ends_ns

    def _say(self) -> Any:
        self._logits[self._said], self._logits[self._next] = 0, 1
        self._said = self._next
        return self._logits


class _Paced:
    """A real engine whose runs take time by a law, whatever they took."""

    def __init__(self, inner: Any, pace: _Engine) -> None:
        self._inner, self._pace = inner, pace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, patches: Any, positions: Any, out: Any) -> None:
        self._pace.encode(patches, positions, out)
        self._inner.encode(patches, positions, out)

    def prefill(self, embeddings: Any, *, past: int) -> Any:
        self._pace.prefill(embeddings, past=past)
        return self._inner.prefill(embeddings, past=past)

    def step(self, *, past: int) -> Any:
        self._pace.step(past=past)
        return self._inner.step(past=past)


@contextmanager
def paced(bundle: phiedge.Bundle, latency: LatencyModel, law: Law) -> Iterator[tuple[Session, Callable[[], int]]]:
    """A session that answers as ever, in logical time; and its clock."""
    facts, clock = bundle.manifest.facts, _Clock()
    pace = _Engine(clock, facts.hidden_size, facts.vocab_size)
    pace.law = law
    model = LoadedModel(bundle, max_context=1024, threads=1, chunk_tokens=256)
    model._vision, model._decoder = _Paced(model._vision, pace), _Paced(model._decoder, pace)
    control = Control(bundle, threads=1, clock_ns=clock, latency=latency)
    control.watchdog = _Watchdog(pace, clock)
    with Session(bundle, model, load_ns=0, control=control) as session:
        yield session, clock


@dataclass(slots=True)
class _Watchdog:
    """Tells the engine when it is due; there is no thread, as there is no time."""

    engine: _Engine
    clock: _Clock
    _fired: bool = False

    @property
    def fired(self) -> bool:
        return self._fired or self.clock.now_ns >= self.engine.due_ns

    def arm(self, due_ns: int, stop: Callable[[], None]) -> None:
        self.engine.due_ns, self._fired = due_ns, False

    def disarm(self) -> None:
        self._fired = self.fired
        self.engine.due_ns = math.inf

    def close(self) -> None:
        pass


@dataclass(slots=True, kw_only=True)
class Simulation:
    """A session over engines that take logical time."""

    session: Session
    model: LoadedModel
    engine: _Engine
    clock: _Clock

    def answer(self, thinking: int, answer: int, **options: Any) -> phiedge.Result:
        """Ask; the model thinks and answers so many tokens unless it is stopped."""
        facts, engine, written = self.model.facts, self.engine, Counter[str]()
        engine.due_ns = math.inf
        step = LoadedModel.step

        def choose(token: int) -> Any:
            if token == facts.end_think_token_id:
                written["ended"] = 1
            written["answer" if written["ended"] else "thinking"] += 1
            if not written["ended"]:
                engine.expect(FILLER if written["thinking"] < thinking else facts.end_think_token_id)
            else:
                engine.expect(FILLER if written["answer"] <= answer else facts.eos_token_ids[0])
            return step(self.model, token)

        chat = self.model.prompts.chat

        def render(*arguments: Any, **keywords: Any) -> Any:
            written["ended"] = keywords["think"] == "off"
            return chat(*arguments, **keywords)

        engine.expect(FILLER)
        with patch.object(self.model, "step", choose), patch.object(self.model.prompts, "chat", render):
            return self.session.generate("How many buttons are there?", [PICTURE], **options)


@contextmanager
def simulated(bundle: phiedge.Bundle, latency: LatencyModel | None) -> Iterator[Simulation]:
    """A session whose engines take logical time."""
    facts, clock = bundle.manifest.facts, _Clock()
    engine = _Engine(clock, facts.hidden_size, facts.vocab_size)
    engines = Engines(backend="simulated", vision=engine, decoder=engine)
    with patch.object(loaded_model, "open_engines", lambda *_, **__: engines):
        model = LoadedModel(bundle, max_context=1024, threads=1, chunk_tokens=256)
    control = Control(bundle, threads=1, clock_ns=clock, latency=latency)
    control.watchdog = _Watchdog(engine, clock)
    with Session(bundle, model, load_ns=0, control=control) as session:
        yield Simulation(session=session, model=model, engine=engine, clock=clock)


def profile(bundle: phiedge.Bundle, law: Law) -> LatencyModel:
    """The latency model that measuring under `law` gives: its parts, and then whole requests."""
    with simulated(bundle, None) as there:
        there.engine.law = law
        seconds = iter(range(10**9))

        def took(plain_ms: float, count: int) -> list[float]:
            return [law.ms(plain_ms, next(seconds) / 300) for _ in range(count)]

        vision = {vision_features(n): took(VISION_MS[0] + VISION_MS[1] * n, 200) for n in (64, 128, 192, 256)}
        chunks = {chunk_features(n, 0): took(CHUNK_MS[0] + CHUNK_MS[1] * n, 100) for n in (4, 16, 64, 128, 192, 256)}
        runs = {
            step_features(past): [took(STEP_MS[0] + STEP_MS[1] * past, 16) for _ in range(300)]
            for past in (10, 100, 300, 600, 1000)
        }
        means = {point: [sum(run) / len(run) for run in found] for point, found in runs.items()}
        excess, quantile = run_excess(means)
        nothing = fit_part({(1.0,): [1e-6]})
        parts = LatencyModel(
            chunk_tokens=256,
            request_ms=0.0,
            decoding=replace(nothing, coefficients=(1e-6, 0.0)),
            fitting=replace(nothing, coefficients=(1e-6, 0.0, 0.0)),
            positions=replace(nothing, coefficients=(1e-6, 0.0)),
            vision=fit_part(vision),
            chunk=fit_part(chunks),
            step=fit_part({point: [ms for run in found for ms in run] for point, found in runs.items()}, centres=means),
            run_excess=excess,
            run_quantile=quantile,
            joint=1.0,
            joint_quantile=0.0,
            abort_usual_ms=STEP_MS[0] / 2,
            abort_ms=STEP_MS[0],
            load_ms=100.0,
            cold_ms=0.0,
        )
        fitted, _ = measure_requests(
            there.session, there.model, parts, until_ns=10**18, progress=silent, clock_ns=there.clock
        )
    return fitted


def run(bundle: phiedge.Bundle, latency: LatencyModel, law: Law, requests: int) -> dict[str, object]:
    """Requests with deadlines from 0.3 to 3 times of the typical."""
    draw, found = random.Random(7), Counter[str]()
    late: list[float] = []
    with simulated(bundle, latency) as there:
        there.engine.law = law
        for _ in range(requests):
            budget = phiedge.Budget(
                deadline_ms=TYPICAL_MS * draw.uniform(0.3, 3.0),
                answer_tokens=ANSWER_TOKENS,
                on_infeasible="degrade",
                min_visual_tokens=128,
            )
            length = draw.choice((3, 3, 10, 20, 40)), draw.randint(1, ANSWER_TOKENS - 1)
            begun_ns = there.clock.now_ns
            try:
                result = there.answer(*length, think="on", max_new_tokens=96, budget=budget)
            except phiedge.BudgetError:
                found["refused"] += 1
                whole = there.answer(
                    0, ANSWER_TOKENS - 1, think="off", max_new_tokens=ANSWER_TOKENS, max_visual_tokens=128
                )
                found["refused, and there was time"] += whole.timings_ms.total <= budget.deadline_ms
                continue
            late_ms = (there.clock.now_ns - begun_ns) / 1e6 - budget.deadline_ms
            late.append(max(0.0, late_ms))
            found["answered"] += result.finish_reason == "stop" and late_ms <= 0
            found["thinking closed"] += result.outcome.thinking_closed is not None
            found["made smaller"] += "visual" in result.plan.given_up
    late.sort()
    return {
        "admitted": len(late),
        "answered_in_time": round(found["answered"] / len(late), 4),
        "refused": found["refused"],
        "refused_with_time": found["refused, and there was time"],
        "made_smaller": found["made smaller"],
        "thinking_closed": found["thinking closed"],
        "overrun_ms": {"p99.9": round(late[int(0.999 * len(late))], 3), "worst": round(late[-1], 3)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=2000, help="under each law")
    parser.add_argument("--laws", nargs="*", default=list(LAWS))
    add_options(parser)
    options = parser.parse_args()
    bundle = phiedge.Bundle.open(options.bundle)
    results = {}
    for name in options.laws:
        of_profile, of_requests = LAWS[name]
        results[name] = run(bundle, profile(bundle, of_profile()), of_requests(), options.requests)
        print(name, results[name], flush=True)
    publish(
        "deadlines-simulated",
        {"requests": options.requests, "answer_tokens": ANSWER_TOKENS, "typical_ms": TYPICAL_MS, "step_ms": STEP_MS[0]},
        results,
        keep=options.keep,
    )


if __name__ == "__main__":
    main()
