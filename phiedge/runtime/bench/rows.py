"""From samples to the rows of a report: spreads, rates, and each beside its limit."""

from collections.abc import Mapping, Sequence

from phiedge.runtime.bench.decode import DecodeSamples
from phiedge.runtime.bench.limits import Limits
from phiedge.runtime.bench.plan import PictureCase
from phiedge.runtime.bench.report import Beside, DecodeCase, FirstTokenCase, PrefillCase, VisionCase
from phiedge.runtime.bench.spread import Spread
from phiedge.runtime.bench.vision import VisionSamples


def vision_rows(samples: Mapping[PictureCase, VisionSamples], limits: Limits) -> tuple[VisionCase, ...]:
    """One row for each picture."""
    rows = []
    for case, found in samples.items():
        ms = Spread.of(found.vision_ms)
        rows.append(
            VisionCase(
                picture=case.name,
                patches=case.grid.tokens,
                ms=ms,
                preprocess_ms=Spread.of(found.preprocess_ms),
                limit=Beside.of(limits.vision(case.grid.tokens), ms.p50),
            )
        )
    return tuple(rows)


def prefill_rows(samples_ns: Mapping[int, Sequence[int]], limits: Limits) -> tuple[PrefillCase, ...]:
    """One row for each length."""
    rows = []
    for tokens, found_ns in samples_ns.items():
        ms = _spread_ms(found_ns)
        rows.append(
            PrefillCase(
                tokens=tokens,
                chunks=len(limits.prefill_works(tokens)),
                ms=ms,
                tokens_per_s=1000 * tokens / ms.p50,
                limit=Beside.of(limits.prefill(tokens), ms.p50),
            )
        )
    return tuple(rows)


def first_token_row(
    found: tuple[PictureCase | None, int, Sequence[int]] | None, limits: Limits
) -> FirstTokenCase | None:
    """The row of the whole request, if one was measured."""
    if found is None:
        return None
    picture, tokens, samples_ns = found
    ms = _spread_ms(samples_ns)
    patches = None if picture is None else picture.grid.tokens
    return FirstTokenCase(
        picture=None if picture is None else picture.name,
        tokens=tokens,
        ms=ms,
        limit=Beside.of(limits.first_token(tokens=tokens, patches=patches), ms.p50),
    )


def decode_rows(samples: Mapping[int, DecodeSamples], limits: Limits) -> tuple[DecodeCase, ...]:
    """One row for each context."""
    rows = []
    for context, found in samples.items():
        ms = _spread_ms(found.token_ns)
        rows.append(
            DecodeCase(
                context=context,
                ms=ms,
                host_us=Spread.of([spent_ns / 1e3 for spent_ns in found.host_ns]),
                tokens_per_s=1000 / ms.p50,
                read_bytes=limits.decode_work(context).read_bytes,
                limit=Beside.of(limits.decode(context), ms.p50),
                disturbance=found.disturbance,
            )
        )
    return tuple(rows)


def _spread_ms(samples_ns: Sequence[int]) -> Spread:
    return Spread.of([spent_ns / 1e6 for spent_ns in samples_ns])
