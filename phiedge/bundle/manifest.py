"""`manifest.json`: what a bundle holds, where it came from, and the hash of every file.

The same export gives the same bytes: keys are sorted, and there is no time, host or path of the machine in it. The
`seal` is the SHA-256 of the manifest without it, so that a changed byte of the manifest is found like one of any
other file. It guards against accidents; it is not a signature.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from phiedge.bundle.facts import ModelFacts
from phiedge.bundle.paths import check_relative
from phiedge.bundle.record import Json, decode, encode
from phiedge.errors import BundleError, IntegrityError, SchemaError

SCHEMA_VERSION = 3
MANIFEST_NAME = "manifest.json"
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
CACHE_TYPES = ("int8", "float8")
VISION_EIGHT_BITS = ("int8", "float8")  # what linears of the vision graph may be in place of floats

Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]
Fact: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """The size of a file and the SHA-256 of its bytes, in lower-case hex."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        _require(
            len(self.sha256) == 64 and not set(self.sha256) - set("0123456789abcdef"),
            f"{self.sha256!r} is not a SHA-256",
        )
        _require(self.bytes >= 0, f"a file cannot have {self.bytes} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where the weights came from, and the hashes of the files read there.

    A hub model has an id and the revision that it was of; random weights have their seed as the revision; others have
    neither.
    """

    name: str
    source: Literal["reference", "directory", "hub", "random"]
    id: str | None
    revision: str | None
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        if self.source == "hub":
            _require(self.id is not None and self.revision is not None, "a hub model needs its id and revision")
        for path in self.files:
            check_relative(path, "model.files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How each part is stored; `group_size` counts the weights along K that share a scale.

    `codes` says how integers are: "offset" from 0 up, or "signed", in two's complement; None where there are none.
    `vision` and `projector` may be "int8" or "float8": so are their linears then, and what goes into them.
    `cache` is what keys and values are kept as between tokens; None: in the type that the graphs compute in. `wider`
    has the decoder's linears that are stored otherwise than `decoder` says, by the checkpoint's name.
    """

    name: str
    vision: str
    projector: str
    decoder: str
    lm_head: str
    embed_tokens: str
    norms: str
    group_size: int | None
    codes: str | None
    cache: str | None
    wider: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.group_size is None or self.group_size >= 1, f"group_size must be positive, not {self.group_size}")
        for part in (self.vision, self.projector):
            _require(part in (*ITEM_BYTES, *VISION_EIGHT_BITS), f"a vision graph of {part} does not exist")
        _require(
            self.cache is None or self.cache in CACHE_TYPES,
            f"a cache of {self.cache} does not exist; there are {', '.join(CACHE_TYPES)}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The two graphs written for one family of engines; `max_context` is the most positions that they can address.

    `activations` is the type that they compute in, and that caches are of.
    """

    vision: str
    decoder: str
    opset: int
    max_context: int
    activations: str

    def __post_init__(self) -> None:
        _require(self.opset >= 1, f"opset must be positive, not {self.opset}")
        _require(self.max_context >= 1, f"max_context must be positive, not {self.max_context}")


def data_name(graph: str) -> str:
    """The file of a graph's weights, which the graphs of other dialects share: `decoder.data` of any decoder."""
    return f"{graph.partition('.')[0]}.data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A raw matrix: row-major, little-endian, `shape` (rows, columns); bfloat16 as its 16 bits."""

    file: str
    dtype: Dtype
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        _require(min(self.shape) >= 1, f"{self.file}: shape {self.shape} has an empty side")

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that `manifest.json` says. `files` is empty until `BundleWriter.commit` has hashed them.

    `target` is the catalogue's name of the device with whatever facts the export relied on; `tools` maps a tool to the
    version that took part. `goldens` and `quantization` are paths in the bundle, or None.
    """

    schema_version: int = SCHEMA_VERSION
    phiedge_version: str
    model: ModelSource
    facts: ModelFacts
    precision: Precision
    dialects: Mapping[str, Dialect]
    embed_tokens: Table
    positions: Table
    tokenizer: str
    chat_template: str
    target: Mapping[str, Fact]
    tools: Mapping[str, str]
    goldens: str | None
    quantization: str | None
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_schema(self.schema_version)
        _require(isinstance(self.target.get("name"), str), "target has no name")
        for where, path in self.named_files().items():
            check_relative(path, where)
        for path in self.files:
            check_relative(path, "files")
            _require(path != MANIFEST_NAME, "the manifest lists itself")
        facts = self.facts
        expected_shapes = {
            "embed_tokens": (self.embed_tokens.shape, (facts.vocab_size, facts.hidden_size)),
            "positions": (self.positions.shape, (facts.position_grid**2, facts.vision_hidden_size)),
        }
        for name, (found, expected) in expected_shapes.items():
            _require(found == expected, f"{name} has shape {list(found)}, the model needs {list(expected)}")
        if self.files:
            self._check_listed()

    def _check_listed(self) -> None:
        for where, path in self.named_files().items():
            _require(path in self.files, f"{where} names {path!r}, which is not in its list of files")
        for table in (self.embed_tokens, self.positions):
            listed = self.files[table.file].bytes
            _require(listed == table.size_bytes, f"{table.file} has {listed} bytes instead of {table.size_bytes}")

    @property
    def max_context(self) -> int:
        """The most positions that any of its graphs can address; 0 without graphs."""
        return max((dialect.max_context for dialect in self.dialects.values()), default=0)

    def graph_files(self, graph: str) -> dict[str, FileEntry]:
        """A graph and the file of its weights."""
        return {name: self.files[name] for name in (graph, data_name(graph)) if name in self.files}

    def named_files(self) -> dict[str, str]:
        """The files that the manifest gives a role, by the place where it does so."""
        named = {
            "embed_tokens.file": self.embed_tokens.file,
            "positions.file": self.positions.file,
            "tokenizer": self.tokenizer,
            "chat_template": self.chat_template,
        }
        for name, dialect in self.dialects.items():
            named[f"dialects.{name}.vision"] = dialect.vision
            named[f"dialects.{name}.decoder"] = dialect.decoder
        optional = {"goldens": self.goldens, "quantization": self.quantization}
        return named | {where: path for where, path in optional.items() if path is not None}

    def to_json(self) -> dict[str, Json]:
        """The manifest as JSON values, with its seal."""
        plain = encode(self)
        assert isinstance(plain, dict)
        return plain | {"seal": hashlib.sha256(_serialise(plain)).hexdigest()}

    def to_bytes(self) -> bytes:
        """The bytes of `manifest.json`."""
        return _serialise(self.to_json())

    @staticmethod
    def from_json(value: object) -> "Manifest":
        """Read JSON values. Raises `SchemaError` for another schema, `BundleError` for what does not hold together."""
        if not isinstance(value, dict):
            raise BundleError("the manifest is not a JSON object", remedy="export the bundle again")
        version = value.get("schema_version")
        if isinstance(version, int) and not isinstance(version, bool):
            _check_schema(version)
        seal = value.get("seal")
        manifest = decode(Manifest, {key: item for key, item in value.items() if key != "seal"}, "the manifest")
        if seal != manifest.to_json()["seal"]:
            raise IntegrityError(
                "the manifest was changed after it was sealed", remedy="copy or export the bundle again"
            )
        return manifest

    @staticmethod
    def from_bytes(data: bytes) -> "Manifest":
        """Read the bytes of `manifest.json`; not one of them may differ from what phiedge writes."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the manifest is not JSON: {error}", remedy="copy or export the bundle again") from error
        manifest = Manifest.from_json(value)
        if manifest.to_bytes() != data:
            raise IntegrityError(
                "the manifest was changed after it was sealed", remedy="copy or export the bundle again"
            )
        return manifest


def _serialise(value: Json) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _check_schema(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"written by a newer phiedge (schema {version}, this one reads {SCHEMA_VERSION})",
            remedy="pip install --upgrade phiedge",
        )
    if version < 1:
        raise SchemaError(f"schema {version} does not exist; this phiedge reads {SCHEMA_VERSION}")
    if version < SCHEMA_VERSION:
        raise SchemaError(
            f"written by an older phiedge (schema {version}, this one reads {SCHEMA_VERSION})",
            remedy="export the bundle again",
        )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise BundleError(f"the manifest does not hold together: {message}", remedy="export the bundle again")
