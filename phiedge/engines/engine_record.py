"""`engine.json`: what a built engine was made from, by what and for which machine, and the hash of every file of it.

An engine is made from a bundle on, or for, one machine, and lies in the bundle's `engines/<name>/`. It is used only
where all of that still holds: the same graphs, the same version of the library, the same machine. Anything else is
refused, naming both sides.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import Bundle, FileEntry, Problem, hash_file
from phiedge.bundle.paths import check_relative, locate
from phiedge.bundle.reading import regular_size
from phiedge.bundle.record import decode, encode
from phiedge.errors import BundleError, SchemaError
from phiedge.progress import Progress, silent

RECORD_NAME = "engine.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """Everything that `engine.json` says.

    `tools` maps a library to its version, `machine` what the engine depends on to how it was found; `options` says how
    it was built, and `source` has the SHA-256 of the bundle's files that it was made from. `goldens` is a file of the
    engine, or None where the bundle's own serve.
    """

    schema_version: int = SCHEMA_VERSION
    backend: str
    phiedge_version: str
    tools: Mapping[str, str]
    machine: Mapping[str, str]
    options: Mapping[str, str]
    source: Mapping[str, str]
    vision: str
    decoder: str
    goldens: str | None
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        if self.schema_version > SCHEMA_VERSION:
            raise SchemaError(
                f"the engine has schema {self.schema_version}, this phiedge reads {SCHEMA_VERSION}",
                remedy="upgrade phiedge, or build the engine again",
            )
        for name in self.files:
            check_relative(name, "files")
        for name in (self.vision, self.decoder, *([self.goldens] if self.goldens else [])):
            if name not in self.files:
                raise BundleError(f"the engine names {name!r}, which it does not list", remedy="build the engine again")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine of a bundle whose record holds together and whose files are there with their sizes."""

    path: Path
    record: EngineRecord

    @property
    def name(self) -> str:
        """The engine's directory below `engines/`."""
        return self.path.name

    def file(self, name: str) -> Path:
        """The path of a file of the engine."""
        return locate(self.path, name, f"{self.path}: files")

    def check_files(self, progress: Progress = silent) -> list[Problem]:
        """Hash every file; an empty list means that every byte is as written. Paths are relative to the bundle."""
        problems = []
        with progress.task("hash", sum(entry.bytes for entry in self.record.files.values()), "B") as advance:
            for name, entry in self.record.files.items():
                sha256 = hash_file(self.file(name))
                if sha256 != entry.sha256:
                    shown = f"sha256 {sha256[:12]} instead of {entry.sha256[:12]}"
                    problems.append(Problem(path=f"engines/{self.name}/{name}", kind="changed", detail=shown))
                advance(entry.bytes)
        return problems


def find_engine(bundle: Bundle, name: str) -> BuiltEngine | None:
    """The engine `engines/<name>` of a bundle, or None. Raises `BundleError` for one that does not hold together."""
    path = bundle.path / "engines" / name
    if not path.is_dir():
        return None
    remedy = f"build it again (phiedge build), or remove {path}"
    try:
        record = decode(EngineRecord, json.loads((path / RECORD_NAME).read_bytes()), RECORD_NAME)
        for file, entry in record.files.items():
            found = regular_size(locate(path, file, "files"))
            if found != entry.bytes:
                told = "is missing" if found is None else f"has {found} bytes instead of {entry.bytes}"
                raise BundleError(f"{file} {told}")
    except FileNotFoundError as error:
        raise BundleError(f"{path} has no {RECORD_NAME}", remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {RECORD_NAME} is not JSON: {error}", remedy=remedy) from error
    except BundleError as error:
        raise type(error)(f"{path}: {error.message}", remedy=remedy) from error
    return BuiltEngine(path=path, record=record)


def built_engines(bundle: Bundle) -> list[BuiltEngine]:
    """All engines of a bundle, by name."""
    directory = bundle.path / "engines"
    names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    engines = [find_engine(bundle, name) for name in names if not name.startswith(".")]
    return [engine for engine in engines if engine is not None]


def check_engine(engine: BuiltEngine, bundle: Bundle, *, tools: Mapping[str, str], machine: Mapping[str, str]) -> None:
    """Refuse an engine that was made from other graphs, by another version or for another machine.

    `tools` and `machine` are what there is here, as the engine's builder would write them now. Raises `BundleError`
    naming what differs, on both sides.
    """
    record = engine.record
    here_files = {name: entry.sha256[:12] for name, entry in bundle.manifest.files.items()}
    made_from = {name: sha256[:12] for name, sha256 in record.source.items()}
    for kind, made, here in (
        ("made from", made_from, {name: here_files.get(name, "nothing") for name in made_from}),
        ("built by", record.tools, tools),
        ("built for", record.machine, machine),
    ):
        for name in sorted({*made, *here}):
            then, now = made.get(name, "nothing"), here.get(name, "nothing")
            if then != now:
                where = "the bundle has" if kind == "made from" else "here is"
                raise BundleError(
                    f"the engine {engine.path} was {kind} {name} {then}; {where} {now}",
                    remedy=f"build it again: phiedge build {bundle.path} --backend {record.backend}; "
                    f"or remove {engine.path}",
                )


def to_bytes(record: EngineRecord) -> bytes:
    """The file that `find_engine` reads; the same record gives the same bytes."""
    return (json.dumps(encode(record), indent=1, sort_keys=True) + "\n").encode()
