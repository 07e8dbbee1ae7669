"""From the times of a few layers to those of the whole model.

A model that is small is sampled whole. Of a larger one a graph with a few layers is timed, and one without them; what
the two differ by, for each layer, is what every further layer takes. The layers of the first are so many that their
weights have left the processor's caches when they are read again, as those of the whole model have.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from phiedge.bundle import ModelFacts, Precision
from phiedge.devices.host import host, last_level_cache_bytes
from phiedge.devices.planning.sampled import SampledTimes, error_on
from phiedge.devices.planning.storage import sizes_of, storage_of
from phiedge.devices.planning.time import CHUNK_TOKENS
from phiedge.devices.work import layer_weights
from phiedge.engines.onnxruntime.sample.decoder import SAMPLED_TYPES, DecoderSample
from phiedge.engines.onnxruntime.sample.timing import DecoderTimer, VisionTimer, medians_ms
from phiedge.progress import Progress, silent

_WHOLE_BYTES = 256_000_000  # of a decoder's weights, up to which it is sampled whole; and of a head's
_OVER_CACHE = 4
_CACHE_BYTES = 32 * 2**20  # where the system does not tell
_BESIDES_BYTES = 500_000_000  # caches, activations, blocks of the vision encoder
_CONTEXTS = (64, 1024, 4096)
_ROWS = (16, 64, CHUNK_TOKENS)
# What a session does between two runs of a decoder: `phiedge bench` measured 7 us of the host at a vocabulary of 768,
# and 0.16 ms at one of 100,352 (AMD EPYC).
_HOST_MS, _CHOICE_MS = 0.007, 1.5e-6
_PATCHES = (256, 1024, 3600)
_BLOCKS = 2  # of a vision encoder, which is bound by arithmetic, so that caches do not matter


def can_sample(precision: Precision) -> bool:
    """Whether the linears are of types that a sample can be written with."""
    return precision.decoder in SAMPLED_TYPES and precision.lm_head in SAMPLED_TYPES


def sample_bytes(facts: ModelFacts, precision: Precision) -> int:
    """What memory a sample takes, about: weights as they are drawn, and again as kernels pack them, in two graphs."""
    part, storage = _part(facts, precision), storage_of(precision, activations="float32", facts=facts)
    layers = (part.layers + 2) * layer_weights(facts) * storage.decoder_bits / 8
    head = 2 * part.vocabulary * facts.hidden_size * storage.head_bits / 8
    return round(2 * (layers + head)) + _BESIDES_BYTES


class ModelSample:
    """A sample of one model, opened; it can be timed as often as is wanted.

    For requests of up to `positions`, with pictures of up to `patches` (0: without any). Longer requests and larger
    pictures go on as these do.
    """

    def __init__(
        self,
        facts: ModelFacts,
        precision: Precision,
        *,
        positions: int,
        patches: int,
        threads: int,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        assert can_sample(precision)
        self._host_ms = _HOST_MS + _CHOICE_MS * facts.vocab_size
        self._capacity = min(max(positions, _CONTEXTS[0]), _CONTEXTS[-1])
        self._decoder = _Decoder(facts, precision, capacity=self._capacity, threads=threads, clock_ns=clock_ns)
        self._pictures = _Pictures(facts, patches, threads=threads, clock_ns=clock_ns)

    def times(self, progress: Progress = silent) -> SampledTimes:
        """Measure now."""
        machine, decoder, capacity = host(), self._decoder, self._capacity
        contexts, rows = _up_to(capacity, _CONTEXTS), _up_to(capacity, _ROWS)
        full = rows[-1]
        pasts = [] if capacity < 2 * full else _up_to(capacity - full, (_CONTEXTS[1] - full, _CONTEXTS[-1] - full))
        counts = self._pictures.counts
        with progress.task("sample", len(contexts) + len(rows) + len(pasts) + len(counts), "times") as advance:

            def ms(tokens: int, past: int) -> float:
                advance(1)
                return decoder.ms(tokens, past=past)

            chunks = [(count, ms(count, 0)) for count in rows]
            alone_ms = chunks[-1][1]
            times = SampledTimes(
                token_ms=tuple((context, ms(1, context - 1) + self._host_ms) for context in contexts),
                chunk_ms=tuple(chunks),
                past_ms=((0, 0.0), *((past, max(0.0, ms(full, past) - alone_ms)) for past in pasts)),
                picture_ms=tuple((count, self._pictures.ms(count)) for count in counts),
                layers=decoder.sampled_layers,
                error=error_on(machine.cpu, machine.cores),
            )
            advance(len(counts))
        return times


class _Decoder:
    """What is sampled of a decoder, and what that says of the whole."""

    def __init__(
        self,
        facts: ModelFacts,
        precision: Precision,
        *,
        capacity: int,
        threads: int,
        clock_ns: Callable[[], int],
    ) -> None:
        self._others, self._part = facts.num_layers - 1, _part(facts, precision)
        self._clock_ns = clock_ns

        def timer(layers: int) -> DecoderTimer:
            sample = DecoderSample(
                facts=facts, precision=precision, layers=layers, vocabulary=self._part.vocabulary, capacity=capacity
            )
            return DecoderTimer(sample, threads=threads)

        whole = self._part.layers == self._others
        self._timers = [timer(layers) for layers in ((self._others,) if whole else (self._part.layers, 0))]

    @property
    def sampled_layers(self) -> int:
        """The last layer and those before it that were run."""
        return self._part.layers + 1

    def ms(self, tokens: int, *, past: int) -> float:
        """Of the whole decoder: what is left without its layers, and what each of them adds."""
        times = medians_ms([timer.run(tokens, past=past) for timer in self._timers], self._clock_ns)
        if len(times) == 1:
            return times[0]
        with_layers, without = times
        a_layer = max(0.0, with_layers - without) / self._part.layers
        # Wider weights are more to read for a token; the rows of a chunk are multiplied by as many of them as before.
        wider = self._part.wider if tokens == 1 else 1.0
        return without + self._missing_head_ms() + self._others * a_layer * wider

    def _missing_head_ms(self) -> float:
        """The rest of a head that is too large to sample: it is read as fast as what stands in the same graph."""
        if not self._part.missing_bytes:
            return 0.0
        bare = self._timers[-1]
        (bare_ms,) = medians_ms([bare.run(1, past=0)], self._clock_ns)
        return self._part.missing_bytes * bare_ms / bare.weights_bytes


class _Pictures:
    """What is sampled of a vision encoder; `counts` are the patches of pictures to time."""

    def __init__(self, facts: ModelFacts, patches: int, *, threads: int, clock_ns: Callable[[], int]) -> None:
        self.counts = _picture_knots(facts, patches)
        self._all, self._clock_ns = facts.vision_layers_used, clock_ns
        self._blocks = min(_BLOCKS, self._all)
        sampled = (self._blocks, 0) if self.counts else ()
        self._timers = [VisionTimer(facts, blocks=blocks, threads=threads) for blocks in sampled]

    def ms(self, count: int) -> float:
        """Of a picture of so many patches: what is left without blocks, and what each of them adds."""
        with_blocks, without = medians_ms([timer.run(count) for timer in self._timers], self._clock_ns)
        return without + self._all * max(0.0, with_blocks - without) / self._blocks


def _picture_knots(facts: ModelFacts, patches: int) -> list[int]:
    """From the fewest that a picture may have to the largest that is asked about."""
    most = min(patches, facts.max_num_patches)
    return sorted({max(facts.min_num_patches, count) for count in _up_to(most, _PATCHES)}) if patches else []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """How much is sampled: whole layers, tokens of the head, and the bytes of the head that are not.

    `wider` is what wider linears add to the bytes of a layer.
    """

    layers: int
    vocabulary: int
    missing_bytes: int
    wider: float


def _part(facts: ModelFacts, precision: Precision) -> _Part:
    storage = storage_of(precision, activations="float32", facts=facts)
    plain = storage_of(precision, activations="float32")
    layer_bytes = layer_weights(facts) * plain.decoder_bits / 8
    head_bytes = facts.vocab_size * facts.hidden_size * plain.head_bits / 8
    others = facts.num_layers - 1
    if sizes_of(facts, storage).decoder_bytes <= _WHOLE_BYTES:
        return _Part(layers=others, vocabulary=facts.vocab_size, missing_bytes=0, wider=1.0)
    share = min(1.0, _WHOLE_BYTES / head_bytes)
    few = -int(-_OVER_CACHE * (last_level_cache_bytes() or _CACHE_BYTES) // layer_bytes)
    return _Part(
        layers=min(others, few),
        vocabulary=int(facts.vocab_size * share),
        missing_bytes=int(head_bytes * (1 - share)),
        wider=storage.decoder_bits / plain.decoder_bits,
    )


def _up_to(most: int, knots: Iterable[int]) -> list[int]:
    """Those below `most`, and `most` itself where it is no more than the last."""
    return sorted({min(knot, most) for knot in knots})
