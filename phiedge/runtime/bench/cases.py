"""Runs the cases of a plan within its time, the cheap ones first.

Each kind has a part of the time, and what one kind leaves over goes to the next. A case that nobody asked for by name
is left out if it would take longer than what is left; how long it would take follows from the case before and from the
arithmetic of both.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from phiedge.progress import Progress
from phiedge.runtime.bench.decode import DecodeSamples, measure_decode
from phiedge.runtime.bench.first_token import measure_first_token, request_tokens
from phiedge.runtime.bench.limits import Limits
from phiedge.runtime.bench.plan import BenchPlan, PictureCase
from phiedge.runtime.bench.prefill import measure_prefill, warm_up
from phiedge.runtime.bench.vision import VisionSamples, measure_vision
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import Session

# Which part of the time is over when a kind of case must be done; decoding is measured last and has what is left.
_VISION_UNTIL, _PREFILL_UNTIL, _FIRST_TOKEN_UNTIL = 0.2, 0.5, 0.65
_DECODE_ROUNDS, _LEAST_STEPS_OF_ROUND = 4, 2


@dataclass(slots=True, kw_only=True)
class Samples:
    """What was measured so far; `left_out` has a sentence for every case that was not."""

    vision: dict[PictureCase, VisionSamples] = field(default_factory=dict)
    prefill_ns: dict[int, tuple[int, ...]] = field(default_factory=dict)
    first_token: tuple[PictureCase | None, int, tuple[int, ...]] | None = None
    decode: dict[int, DecodeSamples] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


class Cases:
    """The cases of one plan on one open session."""

    def __init__(
        self,
        model: LoadedModel,
        session: Session,
        plan: BenchPlan,
        works: Limits,
        *,
        clock_ns: Callable[[], int],
    ) -> None:
        self._model, self._session, self._plan, self._works = model, session, plan, works
        self._clock_ns = clock_ns
        self._begun_ns = clock_ns()
        self._samples = Samples()

    def measure(self, progress: Progress) -> Samples:
        """Run them all."""
        plan = self._plan
        with progress.task("vision", len(plan.pictures), "pictures") as advance:
            for place, picture in enumerate(plan.pictures):
                self._vision(picture, rest=len(plan.pictures) - place)
                advance(1)
        with progress.task("prefill", len(plan.prefill), "prompts") as advance:
            for place, tokens in enumerate(plan.prefill):
                self._prefill(tokens, rest=len(plan.prefill) - place)
                advance(1)
        with progress.task("first token", 1, "request") as advance:
            self._first_token()
            advance(1)
        self._decode(progress)
        return self._samples

    def _decode(self, progress: Progress) -> None:
        """In rounds through all contexts, so that a neighbour on the machine who comes or goes meets them all alike."""
        plan, decode = self._plan, self._samples.decode
        rounds = min(_DECODE_ROUNDS, plan.steps)
        slices = [(turn, context) for turn in range(rounds) for context in plan.contexts]
        with progress.task("decode", len(slices), "parts") as advance:
            for place, (turn, context) in enumerate(slices):
                most = plan.steps * (turn + 1) // rounds - plan.steps * turn // rounds
                found = measure_decode(
                    self._model,
                    context=context,
                    at_least=min(_LEAST_STEPS_OF_ROUND, most),
                    at_most=most,
                    until_ns=self._share_ns(1.0, rest=len(slices) - place),
                    clock_ns=self._clock_ns,
                    warms_up=turn == 0,
                )
                decode[context] = decode[context] + found if context in decode else found
                advance(1)

    def _vision(self, picture: PictureCase, *, rest: int) -> None:
        estimate_ms = self._vision_estimate_ms(picture)
        if not self._plan.pictures_asked and self._too_long(estimate_ms, _VISION_UNTIL):
            self._leave_out(f"a picture of {picture.name}", estimate_ms)
            return
        self._samples.vision[picture] = measure_vision(
            self._model, case=picture, until_ns=self._share_ns(_VISION_UNTIL, rest=rest), clock_ns=self._clock_ns
        )

    def _prefill(self, tokens: int, *, rest: int) -> None:
        if not self._samples.prefill_ns:
            warm_up(self._model)
        estimate_ms = self._prefill_estimate_ms(tokens)
        if not self._plan.prefill_asked and self._too_long(estimate_ms, _PREFILL_UNTIL):
            self._leave_out(f"a prompt of {tokens} tokens", estimate_ms)
            return
        self._samples.prefill_ns[tokens] = measure_prefill(
            self._model, length=tokens, until_ns=self._share_ns(_PREFILL_UNTIL, rest=rest), clock_ns=self._clock_ns
        )

    def _first_token(self) -> None:
        """A request with the largest picture that there is time and room for, or else without one."""
        for picture in (*reversed(self._plan.pictures), None):
            tokens = request_tokens(self._model, picture)
            if tokens >= self._model.context:
                continue
            prefill_ms = self._prefill_estimate_ms(tokens)
            picture_ms = 0.0 if picture is None else self._vision_estimate_ms(picture)
            estimate_ms = None if prefill_ms is None or picture_ms is None else prefill_ms + picture_ms
            if estimate_ms is None:
                continue
            what = "a request" if picture is None else f"a request with a picture of {picture.name}"
            if self._too_long(estimate_ms, _FIRST_TOKEN_UNTIL):
                self._leave_out(what, estimate_ms)
                continue
            until_ns = self._share_ns(_FIRST_TOKEN_UNTIL, rest=1)
            spent_ns = measure_first_token(self._session, case=picture, until_ns=until_ns, clock_ns=self._clock_ns)
            self._samples.first_token = (picture, tokens, spent_ns)
            return

    def _vision_estimate_ms(self, picture: PictureCase) -> float | None:
        """From the largest picture measured so far."""
        if not self._samples.vision:
            return None
        known, samples = list(self._samples.vision.items())[-1]
        ratio = self._works.vision_work(picture.grid.tokens).flop / self._works.vision_work(known.grid.tokens).flop
        return (min(samples.vision_ms) + min(samples.preprocess_ms)) * ratio

    def _prefill_estimate_ms(self, tokens: int) -> float | None:
        """From the longest prompt measured so far."""
        if not self._samples.prefill_ns:
            return None
        known, samples_ns = list(self._samples.prefill_ns.items())[-1]
        ratio = sum(work.flop for work in self._works.prefill_works(tokens)) / sum(
            work.flop for work in self._works.prefill_works(known)
        )
        return min(samples_ns) / 1e6 * ratio

    def _too_long(self, estimate_ms: float | None, part: float) -> bool:
        return estimate_ms is not None and self._clock_ns() + estimate_ms * 1e6 > self._until_ns(part)

    def _share_ns(self, part: float, *, rest: int) -> int:
        """When one of the `rest` cases must end that still share the time until `part`."""
        now_ns = self._clock_ns()
        return now_ns + max(0, self._until_ns(part) - now_ns) // rest

    def _until_ns(self, part: float) -> int:
        return self._begun_ns + int(part * self._plan.seconds * 1e9)

    def _leave_out(self, what: str, estimate_ms: float | None) -> None:
        assert estimate_ms is not None
        self._samples.left_out.append(
            f"{what} was left out, as it would take about {_duration(estimate_ms)}: ask for it, or give more seconds"
        )


def _duration(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms < 1000 else f"{ms / 1000:,.0f} s"
