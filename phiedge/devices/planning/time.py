"""How long a request takes on a device: the roofline of its work, and the same at the efficiencies that were measured.

Each time is a span: the limit, which nothing can beat; what is planned; and the least and the most that the evidence
lets one expect. Pictures are computed one by one, the prompt in chunks, the answer token by token with a context that
grows. What the host does between them is left out: it is below a millisecond for a token. Where times were sampled
on the very machine (`sampled.py`), they are planned with, and the roofline stands beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from phiedge.bundle import ModelFacts
from phiedge.devices.planning.efficiency import Efficiency
from phiedge.devices.planning.sampled import SampledTimes
from phiedge.devices.planning.storage import Sizes
from phiedge.devices.roofline import Rates, limit
from phiedge.devices.work import Work, chunked_prefill_work, decode_work, vision_work

CHUNK_TOKENS = 256  # as engines of TensorRT are built for


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Milliseconds: the physical limit, the least that was reached by others, what is planned, and the most."""

    limit_ms: float
    least_ms: float
    planned_ms: float
    most_ms: float

    def __post_init__(self) -> None:
        slack = 1 + 1e-9  # sums of floats in another order
        assert 0 <= self.limit_ms <= self.least_ms * slack
        assert self.least_ms <= self.planned_ms * slack
        assert self.planned_ms <= self.most_ms * slack

    def __add__(self, other: "Span") -> "Span":
        """One after the other."""
        return Span(
            limit_ms=self.limit_ms + other.limit_ms,
            least_ms=self.least_ms + other.least_ms,
            planned_ms=self.planned_ms + other.planned_ms,
            most_ms=self.most_ms + other.most_ms,
        )


NOTHING = Span(limit_ms=0.0, least_ms=0.0, planned_ms=0.0, most_ms=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """What a device can do at best, and how much of it is reached.

    Of the bandwidth by weights (`decoding`) and by the cache, of the arithmetic by prompts and by pictures. Times that
    were `sampled` on the machine go before all of it.
    """

    decoder: Rates
    vision: Rates
    decoding: Efficiency
    cache: Efficiency
    prompts: Efficiency
    pictures: Efficiency
    sampled: SampledTimes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: the patches of each picture, the other tokens of the prompt, and the tokens of the answer."""

    patches: tuple[int, ...]
    prompt_tokens: int
    answer_tokens: int

    @property
    def visual_tokens(self) -> int:
        return sum(self.patches)

    @property
    def positions(self) -> int:
        """What the request takes of the context."""
        return self.visual_tokens + self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePlan:
    """The parts of one request. `token` is one token in the middle of the answer."""

    vision: Span
    prefill: Span
    token: Span
    answer: Span

    @property
    def first_token(self) -> Span:
        return self.vision + self.prefill

    @property
    def total(self) -> Span:
        return self.first_token + self.answer


def plan_time(facts: ModelFacts, sizes: Sizes, speeds: Speeds, request: Request) -> TimePlan:
    """The time plan of `request`."""
    prompt = request.visual_tokens + request.prompt_tokens
    token = _token(facts, sizes, speeds, context=prompt + max(1, request.answer_tokens // 2))
    # Prefill gives the first token of the answer.
    steps = max(0, request.answer_tokens - 1)
    return TimePlan(
        vision=_vision(facts, sizes, speeds, request.patches),
        prefill=_prefill(facts, sizes, speeds, prompt),
        token=token,
        answer=Span(
            limit_ms=steps * token.limit_ms,
            least_ms=steps * token.least_ms,
            planned_ms=steps * token.planned_ms,
            most_ms=steps * token.most_ms,
        ),
    )


def _vision(facts: ModelFacts, sizes: Sizes, speeds: Speeds, patches: Sequence[int]) -> Span:
    sampled = speeds.sampled
    spans = []
    for count in patches:
        work = vision_work(facts, patches=count, weights_bytes=sizes.vision_bytes)
        span = _span_of_one(work, speeds, speeds.vision, speeds.pictures, sizes.vision_bytes)
        if sampled is not None and sampled.picture_ms:
            span = _as_sampled(span, sampled, sampled.picture(count))
        spans.append(span)
    return sum(spans, start=NOTHING)


def _prefill(facts: ModelFacts, sizes: Sizes, speeds: Speeds, tokens: int) -> Span:
    works = chunked_prefill_work(
        facts,
        tokens=tokens,
        chunk_tokens=CHUNK_TOKENS,
        weights_bytes=sizes.decoder_bytes,
        position_bytes=sizes.position_bytes,
    )
    spans = []
    for past, work in zip(range(0, tokens, CHUNK_TOKENS), works, strict=True):
        span = _span_of_one(work, speeds, speeds.decoder, speeds.prompts, sizes.decoder_bytes)
        if speeds.sampled is not None:
            count = min(CHUNK_TOKENS, tokens - past)
            span = _as_sampled(span, speeds.sampled, speeds.sampled.chunk(count, past=past))
        spans.append(span)
    return sum(spans, start=NOTHING)


def _token(facts: ModelFacts, sizes: Sizes, speeds: Speeds, *, context: int) -> Span:
    work = decode_work(facts, context=context, weights_bytes=sizes.decoder_bytes, position_bytes=sizes.position_bytes)
    span = _span_of_one(work, speeds, speeds.decoder, speeds.prompts, sizes.decoder_bytes)
    return span if speeds.sampled is None else _as_sampled(span, speeds.sampled, speeds.sampled.token(context))


def _as_sampled(span: Span, sampled: SampledTimes, planned_ms: float) -> Span:
    """The time that was sampled. A limit is none for a model that is read from caches; it is never above the least."""
    least_ms = planned_ms * (1 - sampled.error)
    return Span(
        limit_ms=min(span.limit_ms, least_ms),
        least_ms=least_ms,
        planned_ms=planned_ms,
        most_ms=planned_ms * (1 + sampled.error),
    )


def _span_of_one(work: Work, speeds: Speeds, rates: Rates, arithmetic: Efficiency, weights_bytes: int) -> Span:
    """One run, which reads `weights_bytes` and the cache.

    Memory is read at the efficiency of decoding, arithmetic done at its own; whichever takes longer counts.
    """
    weights, cache = speeds.decoding, speeds.cache
    in_cache = 1 - weights_bytes / work.read_bytes

    def ms(of_weights: float, of_cache: float, of_arithmetic: float) -> float:
        of_memory = 1 / ((1 - in_cache) / of_weights + in_cache / of_cache)
        return limit(work, _reached(rates, of_memory, of_arithmetic)).ms

    return Span(
        limit_ms=limit(work, rates).ms,
        least_ms=ms(weights.most, cache.most, arithmetic.most),
        planned_ms=ms(weights.planned, cache.planned, arithmetic.planned),
        most_ms=ms(weights.least, cache.least, arithmetic.least),
    )


def _reached(rates: Rates, of_memory: float, of_arithmetic: float) -> Rates:
    return Rates(
        read_gbps=rates.read_gbps * of_memory,
        weight_gops=rates.weight_gops * of_arithmetic,
        float_gflops=rates.float_gflops * of_arithmetic,
    )
