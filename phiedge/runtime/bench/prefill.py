"""A prompt of a given length into an empty cache, in chunks as a session computes it; its rows are written before."""

from collections.abc import Callable
from itertools import cycle, islice

from phiedge.runtime.bench.decode import drawn_tokens
from phiedge.runtime.bench.spread import repeat
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import RowPlan, TextRows
from phiedge.runtime.stopwatch import Stopwatch

AT_MOST = 20
_WARM_UP_TOKENS = 16
_DISTINCT = 1024  # tokens; the whole table of embeddings shall not become resident for the sake of measuring


def warm_up(model: LoadedModel) -> None:
    """Run a few rows, so that the first sample meets warm weights."""
    length = min(_WARM_UP_TOKENS, model.context)
    _write_rows(model, length)
    model.prefill(length)


def measure_prefill(model: LoadedModel, *, length: int, until_ns: int, clock_ns: Callable[[], int]) -> tuple[int, ...]:
    """Nanoseconds of each prompt of `length` rows, as many as end before the clock shows `until_ns`, at least one.

    The first is left out where there are others: it also makes room for activations of a size not seen before.
    """
    _write_rows(model, length)

    def run() -> int:
        begun_ns = clock_ns()
        model.prefill(length)
        return clock_ns() - begun_ns

    samples = repeat(run, at_least=1, at_most=1 + AT_MOST, until_ns=until_ns, clock_ns=clock_ns)
    return tuple(samples[1:] or samples)


def _write_rows(model: LoadedModel, length: int) -> None:
    tokens = tuple(islice(cycle(drawn_tokens(model.facts.vocab_size, count=_DISTINCT)), length))
    model.write_rows(RowPlan(rows=(TextRows(start=0, tokens=tokens),)), (), Stopwatch())
