"""How long graphs of a sample take, bound and run as a session does it.

Graphs that are held against each other run in turns, so that a neighbour on the machine who comes or goes meets them
all alike.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.buffers import HostCache, alias
from phiedge.engines.onnxruntime.decoder_ports import bind_in_place, cache_names
from phiedge.engines.onnxruntime.graph_run import run_options
from phiedge.engines.onnxruntime.sample.decoder import DecoderSample
from phiedge.engines.onnxruntime.sample.vision import vision_graph

Run: TypeAlias = Callable[[], object]

_LEAST_TURNS, _MOST_TURNS = 3, 12
_ENOUGH_NS = 400_000_000  # of all turns together
_TURN_NS = 15_000_000
_WARM = 3  # runs of a turn from which on the first does not count: it meets the other graph's data in the caches


class DecoderTimer:
    """One decoder sample, opened."""

    def __init__(self, sample: DecoderSample, *, threads: int) -> None:
        facts, graph = sample.facts, sample.graph()
        self.weights_bytes = graph.weights_bytes
        self._hidden_size = facts.hidden_size
        self._session, self._options = graph.open(threads), run_options()
        self._cache = HostCache(
            layers=sample.caches,
            kv_heads=facts.num_kv_heads,
            capacity=sample.capacity,
            head_dim=facts.head_dim,
            dtype=np.int8 if sample.precision.cache == "int8" else np.float32,
        )
        self._last_position, self._total = aligned_zeros((1,), np.int32), aligned_zeros((), np.int32)
        views = [view for pair in self._cache.layers() for view in pair]
        self._binding = self._session.io_binding()
        bind_in_place(
            self._binding,
            inputs={"seqlens_k": alias(self._last_position), "total_sequence_length": alias(self._total)},
            caches=dict(zip(cache_names(sample.caches), map(alias, views), strict=True)),
            logits=alias(aligned_zeros((1, 1, sample.vocabulary), np.float32)),
        )

    def run(self, tokens: int, *, past: int) -> Run:
        """A run of `tokens` rows after `past` positions; it is for use before the next one is asked for."""
        self._binding.bind_ortvalue_input("inputs_embeds", alias(_rows(1, tokens, self._hidden_size)))
        self._last_position[0], self._total[()] = past + tokens - 1, past + tokens
        return lambda: self._session.run_with_iobinding(self._binding, self._options)


class VisionTimer:
    """A few blocks of a vision encoder, opened."""

    def __init__(self, facts: ModelFacts, *, blocks: int, threads: int) -> None:
        self._facts = facts
        self._session, self._options = vision_graph(facts, blocks=blocks).open(threads), run_options()

    def run(self, patches: int) -> Run:
        """A run of a picture of so many patches."""
        facts, binding = self._facts, self._session.io_binding()
        binding.bind_ortvalue_input("patches", alias(_rows(patches, 3 * facts.patch_size**2)))
        binding.bind_ortvalue_input("pos_embed", alias(_rows(patches, facts.vision_hidden_size)))
        binding.bind_ortvalue_output("features", alias(aligned_zeros((patches, facts.hidden_size), np.float32)))
        return lambda: self._session.run_with_iobinding(binding, self._options)


def medians_ms(runs: Sequence[Run], clock_ns: Callable[[], int]) -> list[float]:
    """The median of each, in milliseconds; the first run of each does not count, as it makes room for activations."""
    spent_ns: list[list[int]] = [[] for _ in runs]
    for run in runs:
        run()
    turns, until_ns = 0, clock_ns() + _ENOUGH_NS
    while turns < _LEAST_TURNS or (turns < _MOST_TURNS and clock_ns() < until_ns):
        for run, spent in zip(runs, spent_ns, strict=True):
            spent += _turn_ns(run, clock_ns)
        turns += 1
    return [statistics.median(spent) / 1e6 for spent in spent_ns]


def _turn_ns(run: Run, clock_ns: Callable[[], int]) -> list[int]:
    spent_ns: list[int] = []
    while sum(spent_ns) < _TURN_NS:
        begun_ns = clock_ns()
        run()
        spent_ns.append(max(1, clock_ns() - begun_ns))
    return spent_ns[1:] if len(spent_ns) >= _WARM else spent_ns


def _rows(*shape: int) -> Array:
    rows = aligned_zeros(shape, np.float32)
    rows[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    return rows
