"""Measures the parts of a request on an open model, at points that span what it may be asked.

Points of a kind are visited in rounds, so that a neighbour on the machine who comes or goes meets them all alike. The
values in the cache and in the rows do not matter, as the arithmetic does not depend on them.
"""

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from PIL import Image

from phiedge.engines.interface import RunStoppedError
from phiedge.runtime.bench.decode import drawn_tokens
from phiedge.runtime.images import Pixels, load_image
from phiedge.runtime.latency_model import (
    RUN_TOKENS,
    chunk_features,
    decoding_features,
    fitting_features,
    position_features,
    step_features,
    vision_features,
)
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import PictureRows, RowPlan
from phiedge.runtime.preprocess import Grid
from phiedge.runtime.sampling import Sampler
from phiedge.runtime.stopwatch import Stopwatch
from phiedge.runtime.transcript import Transcript

Features: TypeAlias = tuple[float, ...]
Times: TypeAlias = dict[Features, list[float]]
Clock: TypeAlias = Callable[[], int]
Trial: TypeAlias = Callable[[], None]

_PATCH_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LARGE_SOURCES = ((640, 480), (1280, 720))
_CHUNK_PARTS = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)
_PAST_PARTS = (0.0, 0.1, 0.3, 0.6, 1.0)
_STEP_PARTS = (0.01, 0.1, 0.3, 0.6, 1.0)
_MOST_ROUNDS, _LEAST_ROUNDS = 400, 2
_ABORTS = 12
_PROMPT_TOKENS = 64


@dataclass(slots=True, kw_only=True)
class Measured:
    """Milliseconds of every part by the features of the point; `runs` has the means of many tokens."""

    decoding: Times = field(default_factory=dict)
    fitting: Times = field(default_factory=dict)
    positions: Times = field(default_factory=dict)
    vision: Times = field(default_factory=dict)
    chunk: Times = field(default_factory=dict)
    step: Times = field(default_factory=dict)
    runs: Times = field(default_factory=dict)
    aborts_ms: list[float] = field(default_factory=list)


class Measuring:
    """The measurements on one model; each method takes about the seconds that it is given."""

    def __init__(self, model: LoadedModel, *, clock_ns: Clock) -> None:
        self._model, self._clock_ns = model, clock_ns
        self._random = np.random.default_rng(0)
        self.measured = Measured()
        # Nothing that is measured later meets memory of the cache which nobody has written: it may hold no numbers.
        model.prefill(model.context)

    def pictures(self, seconds: float) -> None:
        """Pictures from pixels to features: from the fewest patches to the most, and large ones made smaller."""
        least, most = self._patches()
        trials = [self._picture(self._noise(size), most) for size in self._sizes()]
        for size in _LARGE_SOURCES:
            trials += [self._picture(self._noise(size), cap) for cap in (least, most)]
        self._rounds(trials, seconds, self.measured.fitting, self.measured.vision)

    def files(self, seconds: float) -> None:
        """Decoding pictures, JPEG and PNG, and the positions of grids that were not used before."""
        trials = [
            self._file(self._noise(size), kind) for size in ((160, 120), *_LARGE_SOURCES) for kind in ("JPEG", "PNG")
        ]
        trials += [self._positions(size) for size in self._sizes()]
        self._rounds(trials, seconds, self.measured.decoding, self.measured.positions)

    def chunks(self, seconds: float) -> None:
        """Chunks of the prompt of several lengths after several positions."""
        model = self._model
        most = min(model.chunk_tokens, model.context)
        lengths = sorted({max(1, round(part * most)) for part in _CHUNK_PARTS})
        self._rounds(
            [self._chunk(length, int(part * (model.context - length))) for part in _PAST_PARTS for length in lengths],
            seconds,
            self.measured.chunk,
        )

    def steps(self, seconds: float) -> None:
        """Tokens at several contexts, in runs of `RUN_TOKENS`."""
        model, token, count = self._model, self._token(), min(RUN_TOKENS, self._model.context - 1)
        starts = sorted({int(part * (model.context - 1 - count)) for part in _STEP_PARTS})
        self._rounds([self._run(token, start, count) for start in starts], seconds)

    def aborts(self) -> None:
        """How long an engine goes on after it was told to stop, in the middle of a whole chunk."""
        model = self._model
        length = min(model.chunk_tokens, model.context)
        whole_ms = self._timed(lambda: model.run_chunk(0, length))
        for place in range(_ABORTS):
            timer = _Stop(whole_ms / 1e3 * (place + 1) / (_ABORTS + 2), model, self._clock_ns)
            timer.start()
            try:
                model.run_chunk(0, length)
            except RunStoppedError:
                self.measured.aborts_ms.append((self._clock_ns() - timer.told_ns) / 1e6)
            finally:
                timer.cancel()
                timer.join()
                model.rearm()

    def _rounds(self, trials: Sequence[Trial], seconds: float, *warmed: Times) -> None:
        """Run all trials again and again; of the kinds `warmed` the first round does not count.

        The first of a size also makes room for activations of a size that was not seen before.
        """
        until_ns = self._clock_ns() + int(seconds * 1e9)
        rounds = 0
        while rounds < _LEAST_ROUNDS or (rounds < _MOST_ROUNDS and self._clock_ns() < until_ns):
            for trial in trials:
                trial()
            if rounds == 0:
                for times in warmed:
                    times.clear()
            rounds += 1

    def _timed(self, trial: Callable[[], object]) -> float:
        begun_ns = self._clock_ns()
        trial()
        return (self._clock_ns() - begun_ns) / 1e6

    def _picture(self, pixels: Pixels, cap: int) -> Trial:
        model, measured = self._model, self.measured

        def trial() -> None:
            watch = Stopwatch(self._clock_ns)
            with watch.measure("preprocess"):
                pictures = model.read_pictures([pixels], max_visual_tokens=cap)
            count = pictures[0].grid.tokens
            plan = RowPlan(rows=(PictureRows(start=0, picture=0, count=count, whole=count),))
            model.write_rows(plan, pictures, watch)
            timings = watch.timings(load_ns=0)
            features = fitting_features(pixels.shape[0] * pixels.shape[1], count)
            measured.fitting.setdefault(features, []).append(timings.preprocess)
            measured.vision.setdefault(vision_features(count), []).append(timings.vision)

        return trial

    def _file(self, pixels: Pixels, kind: str) -> Trial:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        data, features = buffer.getvalue(), decoding_features(pixels.shape[0] * pixels.shape[1])
        times = self.measured.decoding
        return lambda: times.setdefault(features, []).append(self._timed(lambda: load_image(data)))

    def _positions(self, size: tuple[int, int]) -> Trial:
        patch, table = self._model.facts.patch_size, self._model.positions
        grid = Grid(rows=size[1] // patch, columns=size[0] // patch)
        times, features = self.measured.positions, position_features(grid.tokens)

        def trial() -> None:
            table.forget()
            times.setdefault(features, []).append(self._timed(lambda: table.embed(grid)))

        return trial

    def _chunk(self, length: int, past: int) -> Trial:
        model, times, features = self._model, self.measured.chunk, chunk_features(length, past)

        def trial() -> None:
            model.seek(past)
            times.setdefault(features, []).append(self._timed(lambda: model.run_chunk(past, length)))

        return trial

    def _run(self, token: Trial, start: int, count: int) -> Trial:
        model, measured = self._model, self.measured

        def trial() -> None:
            # Tokens come after a prompt, which leaves the processor's caches to them as it likes.
            model.run_chunk(0, min(_PROMPT_TOKENS, model.chunk_tokens, model.context))
            model.seek(start)
            token()  # an engine may go back only with its next run
            times = [self._timed(token) for _ in range(count)]
            # Contexts a few positions apart are one point.
            features = step_features(start + 1 + count // 2)
            measured.step.setdefault(features, []).extend(times)
            measured.runs.setdefault(features, []).append(sum(times) / count)

        return trial

    def _token(self) -> Trial:
        """One token as a session takes it: row, engine, choice, text."""
        model = self._model
        tokens = drawn_tokens(model.facts.vocab_size, count=1024)
        sampler = Sampler(model.facts.vocab_size)
        transcript = Transcript(model.tokenizer, model.facts, capacity=2**31, starts_thinking=False)

        def trial() -> None:
            token = tokens[transcript.count % len(tokens)]
            transcript.add(token)
            sampler.choose(model.step(token))

        return trial

    def _noise(self, size: tuple[int, int]) -> Pixels:
        return self._random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)

    def _sizes(self) -> list[tuple[int, int]]:
        """Width and height of pictures from the fewest patches to the most, nearly square."""
        facts, (least, most) = self._model.facts, self._patches()
        sides = [(least + part * (most - least)) ** 0.5 for part in _PATCH_STEPS]
        grids = {(int(side), int(side * side / int(side))) for side in sides}
        return sorted((columns * facts.patch_size, rows * facts.patch_size) for rows, columns in grids)

    def _patches(self) -> tuple[int, int]:
        """The fewest patches of a picture and the most, as far as the context has room."""
        facts, context = self._model.facts, self._model.context
        return min(facts.min_num_patches, context), min(facts.max_num_patches, context)


class _Stop(threading.Timer):
    """Stops a model after some seconds and remembers when."""

    def __init__(self, seconds: float, model: LoadedModel, clock_ns: Clock) -> None:
        super().__init__(seconds, self._stop_model)
        self._model, self._clock_ns = model, clock_ns
        self.told_ns = 0

    def _stop_model(self) -> None:
        self.told_ns = self._clock_ns()
        self._model.stop()
