"""The limit of every case of one bundle on one machine: its work, at the measured rates."""

from dataclasses import dataclass

from phiedge.bundle import Bundle, ModelFacts
from phiedge.bundle.manifest import ITEM_BYTES
from phiedge.devices.roofline import Limit, Rates, limit, limit_of_all
from phiedge.devices.work import Work, chunked_prefill_work, decode_work, rotary_bytes, vision_work
from phiedge.engines.machine_rates import MachineRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Bytes that runs read: the weights of both graphs, each whole, and one position of the cache."""

    decoder_bytes: int
    vision_bytes: int
    position_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each case has to do. Its limit is None where no rates were measured."""

    facts: ModelFacts
    reads: Reads
    chunk_tokens: int
    decoder_rates: Rates | None
    vision_rates: Rates | None

    def decode_work(self, context: int) -> Work:
        return decode_work(
            self.facts,
            context=context,
            weights_bytes=self.reads.decoder_bytes,
            position_bytes=self.reads.position_bytes,
        )

    def prefill_works(self, tokens: int) -> tuple[Work, ...]:
        return chunked_prefill_work(
            self.facts,
            tokens=tokens,
            chunk_tokens=self.chunk_tokens,
            weights_bytes=self.reads.decoder_bytes,
            position_bytes=self.reads.position_bytes,
        )

    def vision_work(self, patches: int) -> Work:
        return vision_work(self.facts, patches=patches, weights_bytes=self.reads.vision_bytes)

    def decode(self, context: int) -> Limit | None:
        return None if self.decoder_rates is None else limit(self.decode_work(context), self.decoder_rates)

    def prefill(self, tokens: int) -> Limit | None:
        return None if self.decoder_rates is None else limit_of_all(self.prefill_works(tokens), self.decoder_rates)

    def vision(self, patches: int) -> Limit | None:
        return None if self.vision_rates is None else limit(self.vision_work(patches), self.vision_rates)

    def first_token(self, *, tokens: int, patches: int | None) -> Limit | None:
        """A picture of `patches`, if any, and then a prompt of `tokens` that it is part of."""
        prefill = self.prefill(tokens)
        picture = None if patches is None else self.vision(patches)
        if prefill is None or picture is None:
            return prefill
        larger = max(prefill, picture, key=lambda part: part.ms)
        return Limit(ms=prefill.ms + picture.ms, bound=larger.bound)


def limits_of(bundle: Bundle, *, reads: Reads, chunk_tokens: int, rates: MachineRates | None) -> Limits:
    """The limits of `bundle` at `rates`, or without any."""
    manifest = bundle.manifest
    return Limits(
        facts=manifest.facts,
        reads=reads,
        chunk_tokens=chunk_tokens,
        decoder_rates=None if rates is None else rates.for_decoder(manifest.precision),
        vision_rates=None if rates is None else rates.for_vision(),
    )


def reads_of(bundle: Bundle, *, dialect: str, position_bytes: int) -> Reads:
    """What the graphs of `dialect` read, as the manifest lists their data.

    The tables of rotary positions, one for each type that a dialect computes in, stand beside the weights but are
    looked up, not read whole.
    """
    manifest, graphs = bundle.manifest, bundle.manifest.dialects[dialect]
    item_bytes = sum(ITEM_BYTES[activations] for activations in {one.activations for one in manifest.dialects.values()})
    rotary = rotary_bytes(manifest.facts, positions=graphs.max_context, item_bytes=item_bytes)
    return Reads(
        decoder_bytes=_data_bytes(bundle, graphs.decoder) - rotary,
        vision_bytes=_data_bytes(bundle, graphs.vision),
        position_bytes=position_bytes,
    )


def _data_bytes(bundle: Bundle, graph: str) -> int:
    """What the graph's weights take on disk."""
    return sum(entry.bytes for name, entry in bundle.manifest.graph_files(graph).items() if name != graph)
