"""A prompt of a given length into an empty cache, in chunks as a session computes it; its rows are written before."""

from collections.abc import Callable

from phiedge.runtime.bench.decode import drawn_tokens
from phiedge.runtime.bench.spread import repeat
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import RowPlan, TextRows
from phiedge.runtime.stopwatch import Stopwatch

AT_MOST = 20
_WARM_UP_TOKENS = 16


def prepare_rows(model: LoadedModel, length: int) -> None:
    """Write `length` rows of text, and run the first few, so that the first sample meets warm weights."""
    tokens = drawn_tokens(model.facts.vocab_size, count=length)
    model.write_rows(RowPlan(rows=(TextRows(start=0, tokens=tokens),)), (), Stopwatch())
    model.prefill(min(_WARM_UP_TOKENS, length))


def measure_prefill(model: LoadedModel, *, length: int, until_ns: int, clock_ns: Callable[[], int]) -> tuple[int, ...]:
    """Nanoseconds of each prompt of `length` rows, as many as end before the clock shows `until_ns`, at least one.

    The first is left out where there are others: it also makes room for activations of a size not seen before.
    """

    def run() -> int:
        begun_ns = clock_ns()
        model.prefill(length)
        return clock_ns() - begun_ns

    samples = repeat(run, at_least=1, at_most=1 + AT_MOST, until_ns=until_ns, clock_ns=clock_ns)
    return tuple(samples[1:] or samples)
