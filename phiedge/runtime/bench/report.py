"""What a benchmark found, as records that turn into JSON; docs/reference/bench.md says what each field means."""

from dataclasses import asdict, dataclass
from typing import Any

from phiedge.devices.host import Disturbance, Host
from phiedge.devices.roofline import Bound, Limit
from phiedge.engines.machine_rates import MachineRates
from phiedge.runtime.bench.spread import Spread

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A limit, and how much of it was reached: 1.0 is as fast as the measured rates of the machine allow."""

    limit_ms: float
    bound: Bound
    share: float

    @staticmethod
    def of(limit: Limit | None, p50_ms: float) -> "Beside | None":
        """The limit beside a median; None where there is no limit, as nothing was measured that it could be of."""
        if limit is None:
            return None
        return Beside(limit_ms=limit.ms, bound=limit.bound, share=limit.ms / p50_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionCase:
    """One size of picture through the encoder and the projector; `preprocess_ms` is its way there from pixels."""

    picture: str
    patches: int
    ms: Spread
    preprocess_ms: Spread
    limit: Beside | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillCase:
    """A prompt of `tokens`, computed in `chunks`."""

    tokens: int
    chunks: int
    ms: Spread
    tokens_per_s: float
    limit: Beside | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokenCase:
    """A whole request until its first token; `picture` is None for one without."""

    picture: str | None
    tokens: int
    ms: Spread
    limit: Beside | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCase:
    """Steps at one context. `ms` is the whole token; `host_us` is the part outside the run of the engine's library.

    `read_bytes` is what a token has to read: weights and cache. `disturbance` is what came between during all steps.
    """

    context: int
    ms: Spread
    host_us: Spread
    tokens_per_s: float
    read_bytes: int
    limit: Beside | None
    disturbance: Disturbance


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was measured, and how it was opened. `weights_bytes` are the decoder's, as read for every token."""

    bundle: str
    model: str
    precision: str
    group_size: int | None
    backend: str
    threads: int
    max_context: int
    chunk_tokens: int
    weights_bytes: int
    position_bytes: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident memory when all was measured. `peak_bytes` is None where the system does not let it be told."""

    anonymous_bytes: int
    file_bytes: int
    peak_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """Everything; `notes` are sentences for whoever reads the figures, on what to mistrust and what was left out.

    `rates` is None for a backend that computes where nothing could be measured, and then every limit is.
    """

    setting: Setting
    host: Host
    rates: MachineRates | None
    load_ms: float
    vision: tuple[VisionCase, ...]
    prefill: tuple[PrefillCase, ...]
    first_token: FirstTokenCase | None
    decode: tuple[DecodeCase, ...]
    memory: Memory
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {"schema_version": SCHEMA_VERSION} | asdict(self)
