"""What the process that builds an engine is told, and what it answers; both as JSON.

`phiedge.engines.tensorrt.worker` reads one `BuildRequest` from its standard input and writes events to its standard
output, one a line: how far it is, and in the end what it built or why it could not.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from phiedge.bundle.record import Json, decode, encode
from phiedge.engines.tensorrt.ports import Ports

Part: TypeAlias = Literal["vision", "decoder"]
Kind: TypeAlias = Literal["progress", "answer", "error"]

# The sizes of a profile's axis: smallest, usual, largest.
Sizes: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One engine to build from the file `graph` into the file `engine`, and what is told of its layers into `layers`.

    `sms` are compute capabilities to build for ahead of time; empty, it is for the GPU at hand. `capacity` is how many
    positions the caches of a decoder have, None without caches. `timing_cache` is a file to begin from and to write, or
    None; `threads` how many the builder may use, or None for its own choice.
    """

    backend: str
    part: Part
    dialect: str
    graph: str
    engine: str
    layers: str
    sms: tuple[int, ...]
    ports: Ports
    profiles: tuple[Sizes, ...]
    attentions: int
    capacity: int | None
    timing_cache: str | None
    threads: int | None

    def __post_init__(self) -> None:
        assert self.profiles, "an engine has at least one profile"
        assert all(sizes == tuple(sorted(sizes)) for sizes in self.profiles), "sizes of a profile grow"

    @property
    def caches(self) -> int:
        """How many tensors of keys or values are written in place: two in each layer of a decoder."""
        return 2 * self.attentions if self.part == "decoder" else 0

    def to_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps(encode(self))

    @staticmethod
    def from_json(text: str) -> "BuildRequest":
        """Raises `BundleError` for what is no request."""
        return decode(BuildRequest, json.loads(text), "the request")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAnswer:
    """What a build came to; `peak_bytes` is the largest resident size of its process."""

    version: str
    engine_bytes: int
    build_ns: int
    peak_bytes: int


def event(kind: Kind, value: Json) -> str:
    """A line for the parent."""
    return json.dumps({"event": kind, "value": value})


def read_event(line: str) -> tuple[Kind, Any]:
    """What such a line says."""
    told = json.loads(line)
    return told["event"], told["value"]
