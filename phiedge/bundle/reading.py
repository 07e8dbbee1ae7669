"""Opening a bundle and checking its files.

Opening is cheap (the manifest, and the size of every file); hashing everything is `check_files`, which `phiedge
verify` calls.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phiedge.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest
from phiedge.bundle.paths import locate
from phiedge.errors import BundleError, IntegrityError
from phiedge.progress import Progress, silent

# What engines and profiles hold is made after the export, on the device, and carries its own stamps.
UNLISTED_DIRECTORIES = ("engines", "profiles")
PARTIAL_MARK = ".partial-"
JOURNAL_NAME = "export.journal"  # in an unfinished bundle: how far its writer came (`phiedge.exporters.journal`)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that is not as the manifest says, or that says what another does not ("disagrees")."""

    path: str
    kind: Literal["changed", "missing", "added", "disagrees"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A directory whose manifest holds together and whose files are there with their sizes; see `Bundle.open`."""

    path: Path
    manifest: Manifest

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "Bundle":
        """Read and check the manifest, and that every listed file is there with its size.

        Raises `BundleError` (`SchemaError`, `IntegrityError`), and `OSError` for what the machine refuses.
        """
        root = Path(path)
        manifest = _read_manifest(root)
        for name, entry in manifest.files.items():
            file = locate(root, name, f"{root}: files")
            found = regular_size(file)
            if found is None:
                raise IntegrityError(f"{root} lacks the file {name}", remedy="copy or export the bundle again")
            if found != entry.bytes:
                raise IntegrityError(
                    f"{root}: {name} has {found} bytes, the manifest says {entry.bytes}",
                    remedy="copy or export the bundle again",
                )
        return Bundle(path=root, manifest=manifest)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} does not list a file {name!r}", remedy="export the bundle again")
        return self.path / name

    def check_files(self, progress: Progress = silent) -> list[Problem]:
        """Hash every file and look for files that nobody listed; an empty list means that every byte is as written."""
        listed = self.manifest.files
        problems = [
            Problem(path=name, kind="added", detail="the manifest does not list it")
            for name in found_files(self.path)
            if name not in listed
        ]
        with progress.task("hash", sum(entry.bytes for entry in listed.values()), "B") as advance:
            for name, entry in listed.items():
                problem = self._check_file(name, entry)
                if problem is not None:
                    problems.append(problem)
                advance(entry.bytes)
        return sorted(problems, key=lambda problem: problem.path)

    def _check_file(self, name: str, entry: FileEntry) -> Problem | None:
        file = locate(self.path, name, f"{self.path}: files")
        size_bytes = regular_size(file)
        if size_bytes is None:
            return Problem(path=name, kind="missing", detail="no such file")
        if size_bytes != entry.bytes:
            return Problem(path=name, kind="changed", detail=f"{size_bytes} bytes instead of {entry.bytes}")
        sha256 = hash_file(file)
        if sha256 != entry.sha256:
            return Problem(path=name, kind="changed", detail=f"sha256 {sha256[:12]} instead of {entry.sha256[:12]}")
        return None


def found_files(root: Path) -> list[str]:
    """The files under `root` but the manifest, engines and profiles, as sorted paths with forward slashes."""
    names = []
    for directory, subdirectories, files in os.walk(root, onerror=_raise):
        relative = Path(directory).relative_to(root)
        if relative == Path():
            subdirectories[:] = [name for name in subdirectories if name not in UNLISTED_DIRECTORIES]
            files = [name for name in files if name != MANIFEST_NAME]
        links = [name for name in subdirectories if (Path(directory) / name).is_symlink()]
        names += [(relative / name).as_posix() for name in files + links]
    return sorted(names)


def _raise(error: OSError) -> None:
    raise error


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in lower-case hex, read in chunks."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def regular_size(path: Path) -> int | None:
    """The size of a regular file in bytes, or None for what is not there or is something else."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _read_manifest(root: Path) -> Manifest:
    if not root.exists():
        raise BundleError(f"there is no bundle at {root}", remedy=f"phiedge export --target cpu -o {root}")
    if PARTIAL_MARK in root.resolve().name:
        raise BundleError(f"{root} is what a killed export left behind", remedy="export again, which removes it")
    file = root / MANIFEST_NAME
    if regular_size(file) is None:
        raise BundleError(
            f"{root} is not a bundle: it has no {MANIFEST_NAME}",
            remedy="give the directory that `phiedge export -o` wrote",
        )
    try:
        return Manifest.from_bytes(file.read_bytes())
    except BundleError as error:
        raise type(error)(f"{root}: {error.message}", remedy=error.remedy) from error
