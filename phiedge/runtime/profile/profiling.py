"""Measures the latency model of one bundle on this machine, and then how well it tells what was not measured."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from phiedge.bundle import Bundle
from phiedge.errors import UsageError
from phiedge.progress import Progress, silent
from phiedge.runtime.drift import LEAST_JOINT, Drift
from phiedge.runtime.images import Pixels
from phiedge.runtime.latency_model import Estimate, LatencyModel
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.preprocess import Grid, PatchBudget, choose_grid
from phiedge.runtime.profile.fitting import fit_part, nonnegative_fit, run_excess, upper_bound
from phiedge.runtime.profile.identity import identity_here
from phiedge.runtime.profile.measuring import Measuring
from phiedge.runtime.profile.store import Fit, Profile
from phiedge.runtime.prompt import ThinkMode
from phiedge.runtime.realtime import RealtimePolicy
from phiedge.runtime.session import DEFAULT_CHUNK_TOKENS, Session

DEFAULT_SECONDS = 60.0
_SHARES = {"pictures": 0.25, "files": 0.05, "chunks": 0.25, "steps": 0.2}  # what is left is for whole requests
_LEAST_REQUESTS, _MOST_REQUESTS = 9, 1200
_LONGEST_PROMPT, _MOST_TOKENS = 200, 48  # text tokens, about; and of the answer
_DISTURBED = 1.5  # times of what most take
_PICTURED, _THINKING = 0.75, 0.5  # of the requests


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One whole request: what was predicted, and what it took."""

    predicted: Estimate
    ms: float

    def scaled(self, factor: float, around: Estimate) -> "_Trial":
        """The same where parts take so many times as long, and so much comes on top."""
        return replace(self, predicted=self.predicted.times(factor) + around)

    @property
    def above(self) -> float:
        """How far it lies above the usual, in excesses of its parts."""
        return max(0.0, self.ms - self.predicted.usual_ms) / self.predicted.excess_ms

    def error(self, lately: float = 1.0) -> float:
        return abs(self.ms - lately * self.predicted.usual_ms) / self.ms


def measure_profile(
    bundle: Bundle,
    *,
    max_context: int | None = None,
    threads: int | None = None,
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    backend: str | None = None,
    seconds: float = DEFAULT_SECONDS,
    realtime: RealtimePolicy | None = None,
    progress: Progress = silent,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Profile:
    """Measure for about `seconds`, besides opening. Options and errors as of `Session.open`.

    What `realtime` wishes for and is granted is a part of the profile's identity, as far as the system can tell it.
    """
    if not 0 < seconds < float("inf"):
        raise UsageError(f"seconds must be a number above 0, not {seconds:g}", remedy=f"as in {DEFAULT_SECONDS:g}")
    load_before = os.getloadavg()[0]
    begun_ns = clock_ns()
    with progress.task("open", 1, "bundle") as advance:
        model = LoadedModel(
            bundle, max_context=max_context, threads=threads, chunk_tokens=chunk_tokens, backend=backend
        )
        advance(1)
    load_ns = clock_ns() - begun_ns
    cold_ms = _cold_ms(bundle, model)
    with Session(bundle, model, load_ns=load_ns, realtime=realtime) as session:
        parts = replace(
            _measure_parts(model, seconds, load_ms=load_ns / 1e6, progress=progress, clock_ns=clock_ns),
            cold_ms=cold_ms,
        )
        until_ns = begun_ns + load_ns + int(seconds * 1e9)
        fitted, fit = measure_requests(session, model, parts, until_ns=until_ns, progress=progress, clock_ns=clock_ns)
        identity = identity_here(bundle, model, threads=threads)
    return Profile(
        identity=identity,
        model=fitted,
        fit=fit,
        seconds=round((clock_ns() - begun_ns) / 1e9, 1),
        load_average=(round(load_before, 2), round(os.getloadavg()[0], 2)),
    )


def _cold_ms(bundle: Bundle, model: LoadedModel) -> float:
    """By how much the first request after opening takes longer than the same one later."""
    side = model.facts.patch_size * int(model.facts.min_num_patches**0.5)
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    with Session(bundle, model, load_ns=0) as session:
        sees = [picture] if model.context >= 2 * model.facts.min_num_patches else []
        first, *later = (session.generate("?", sees, think="off", max_new_tokens=2).timings_ms.total for _ in range(4))
    return max(0.0, first - statistics.median(later))


def _measure_parts(
    model: LoadedModel, seconds: float, *, load_ms: float, progress: Progress, clock_ns: Callable[[], int]
) -> LatencyModel:
    measuring = Measuring(model, clock_ns=clock_ns)
    with progress.task("measure", len(_SHARES) + 1, "parts") as advance:
        for name, share in _SHARES.items():
            getattr(measuring, name)(share * seconds)
            advance(1)
        measuring.aborts()
        advance(1)
    found = measuring.measured
    excess, quantile = run_excess(found.runs)
    return LatencyModel(
        chunk_tokens=model.chunk_tokens,
        request_ms=0.0,
        decoding=fit_part(found.decoding),
        fitting=fit_part(found.fitting),
        positions=fit_part(found.positions),
        vision=fit_part(found.vision),
        chunk=fit_part(found.chunk),
        step=fit_part(found.step, centres=found.runs),
        run_excess=excess,
        run_quantile=quantile,
        joint=1.0,
        joint_quantile=0.0,
        abort_usual_ms=statistics.median(found.aborts_ms) if found.aborts_ms else 0.0,
        abort_ms=max(found.aborts_ms, default=0.0),
        load_ms=load_ms,
        cold_ms=0.0,
    )


def measure_requests(
    session: Session,
    model: LoadedModel,
    parts: LatencyModel,
    *,
    until_ns: int,
    progress: Progress,
    clock_ns: Callable[[], int],
) -> tuple[LatencyModel, Fit]:
    """What requests make of their parts, from a third of them; what they seldom exceed, from the next; and how well
    all of it tells the rest.
    """
    random, trials = np.random.default_rng(1), list[_Trial]()
    with progress.task("requests", 1, "round") as advance:
        while len(trials) < _LEAST_REQUESTS or (len(trials) < _MOST_REQUESTS and clock_ns() < until_ns):
            trials.append(_request(session, model, parts, random, clock_ns=clock_ns))
        advance(1)
    factor, rest_ms = _whole_from_parts(trials[::3])
    fitted = replace(parts.slowed(factor), request_ms=rest_ms)
    scaled = [trial.scaled(factor, fitted.around()) for trial in trials]
    fitted = _bounded(fitted, scaled[1::3])
    return fitted, _fit(fitted, scaled)


def _bounded(model: LatencyModel, trials: Sequence[_Trial]) -> LatencyModel:
    """The model with what whole requests seldom exceed. That their parts' excesses are independent is not believed."""
    quantile, joint = upper_bound([trial.above for trial in trials])
    least = LEAST_JOINT if quantile >= model.quantile else 1.0
    return replace(model, joint=max(least, joint), joint_quantile=quantile)


def _fit(model: LatencyModel, trials: Sequence[_Trial]) -> Fit:
    """Of every third, in which nothing was fitted. A forecast knows all that came before, and nothing of its own."""
    fresh, drift, forecast = trials[2::3], Drift(), list[float]()
    for place, trial in enumerate(trials):
        if place % 3 == 2:
            forecast.append(trial.error(drift.lately))
        drift.observe(trial.ms, trial.predicted)
    median, p95 = _middle_and_p95([trial.error() for trial in fresh])
    median_as_forecast, p95_as_forecast = _middle_and_p95(forecast)
    within = sum(trial.ms <= model.together(trial.predicted).high_ms for trial in fresh) / len(fresh)
    return Fit(
        requests=len(fresh),
        median_error=median,
        p95_error=p95,
        median_error_as_forecast=median_as_forecast,
        p95_error_as_forecast=p95_as_forecast,
        within=round(within, 4),
    )


def _middle_and_p95(errors: list[float]) -> tuple[float, float]:
    ordered = sorted(errors)
    return round(statistics.median(ordered), 4), round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 4)


def _whole_from_parts(trials: Sequence[_Trial]) -> tuple[float, float]:
    """What requests take: so many times of what their parts take alone, one after the other, and so much besides.

    Requests that were disturbed far more than most do not count.
    """
    ratios = [trial.ms / trial.predicted.usual_ms for trial in trials]
    middle = statistics.median(ratios)
    kept = [trial for trial, ratio in zip(trials, ratios, strict=True) if ratio <= _DISTURBED * middle]
    features = np.array([(trial.predicted.usual_ms, 1.0) for trial in kept])
    factor, rest_ms = map(float, nonnegative_fit(features, np.array([trial.ms for trial in kept])))
    return (factor, rest_ms) if factor > 0 else (middle, 0.0)


def _request(
    session: Session,
    model: LoadedModel,
    parts: LatencyModel,
    random: np.random.Generator,
    *,
    clock_ns: Callable[[], int],
) -> _Trial:
    """One request with a picture or without, of a length and with an answer that are drawn."""
    sees = model.context >= 2 * model.facts.min_num_patches and random.random() < _PICTURED
    pixels = _picture(model, random) if sees else None
    known = model.known_grids
    prompt = "a " * int(random.integers(1, min(_LONGEST_PROMPT, model.context // 8))) + "?"
    think: ThinkMode = "on" if random.random() < _THINKING else "off"
    # What it takes to write the prompt is known when a request is admitted: it has passed.
    begun_ns = clock_ns()
    model.prompts.chat(prompt, images=0 if pixels is None else 1, think=think)
    text_ms = (clock_ns() - begun_ns) / 1e6
    result = session.generate(
        prompt,
        [] if pixels is None else [pixels],
        think=think,
        max_new_tokens=int(random.integers(1, _MOST_TOKENS)),
    )
    rows = result.tokens.prompt + result.tokens.visual
    predicted = (
        Estimate(usual_ms=text_ms, excess_ms=0.0)
        + parts.prefill(rows)
        + parts.steps(len(result.token_ids) - 1, rows + 1)
    )
    if pixels is not None:
        height, width, _ = pixels.shape
        grid = choose_grid(width, height, PatchBudget.from_facts(model.facts))
        predicted += parts.picture(
            pixels=width * height, patches=grid.tokens, encoded=False, grid_is_known=grid in known
        )
        predicted += parts.encoding(grid.tokens)
    return _Trial(predicted=predicted, ms=result.timings_ms.total)


def _picture(model: LoadedModel, random: np.random.Generator) -> Pixels:
    """Noise of a size that is drawn, within what the model sees as it is and the context has room for."""
    facts = model.facts
    most = min(facts.max_num_patches, max(facts.min_num_patches, model.context // 2))
    patches = int(random.integers(facts.min_num_patches, most + 1))
    rows = max(1, int(patches**0.5 * random.uniform(0.7, 1.0)))
    grid = Grid(rows=rows, columns=max(1, patches // rows))
    size = (grid.rows * facts.patch_size, grid.columns * facts.patch_size, 3)
    return random.integers(0, 256, size, dtype=np.uint8)
