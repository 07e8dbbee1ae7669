"""A checkpoint: a directory with a configuration, a tokenizer and weights in safetensors, read lazily and checked.

    with open_checkpoint("reference") as checkpoint:
        checkpoint.check()
        weights = checkpoint.float32("model.norm.weight")

Every tensor that the files hold must be one that the architecture has, and the other way round. Weights are data: there
are no pickles, no code from the checkpoint, and nothing here needs torch.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

from phiedge.bundle import FileEntry, hash_file
from phiedge.errors import CheckpointError, TensorError
from phiedge.exporters.companions import GENERATION_FILE, PREPROCESSOR_FILE
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.hub import DESCRIBING_FILES, HubId, Snapshot, download
from phiedge.exporters.safetensors_file import Array, Dtype, SafetensorsFile
from phiedge.exporters.sequential import read_in_order
from phiedge.exporters.source import Block
from phiedge.exporters.tensors import expected_tensors
from phiedge.exporters.values import Float32, StoredRows
from phiedge.exporters.weight_files import INDEX_FILE, open_weights
from phiedge.progress import Progress, silent
from phiedge.reference import MODEL_PATH

Source: TypeAlias = Literal["reference", "directory", "hub"]

REFERENCE = "reference"
CONFIG_FILE, TOKENIZER_FILE, TEMPLATE_FILE = "config.json", "tokenizer.json", "chat_template.jinja"
_NEEDED = (CONFIG_FILE, TOKENIZER_FILE, TEMPLATE_FILE)
_OPTIONAL = (GENERATION_FILE, PREPROCESSOR_FILE, INDEX_FILE)
_BLOCK_ELEMENTS = 1 << 22  # 16 MiB of float32 at a time


def open_checkpoint(
    model: str | os.PathLike[str], *, accept: Callable[[ModelConfig], None] | None = None
) -> "Checkpoint":
    """Open `"reference"`, a directory, or a Hub id (`owner/name` or `owner/name@revision`), and read its configuration.

    A directory wins over a Hub id of the same name; write `./reference` for a directory of that name. Weights are not
    read yet, but every file's header is. `accept` sees the configuration of a Hub id before its weights are fetched,
    and raises to refuse it. Raises `CheckpointError`, for a Hub id also `MissingExtraError`.
    """
    text = os.fspath(model)
    if text == REFERENCE:
        return Checkpoint(MODEL_PATH, source="reference")
    path = Path(text)
    if path.is_dir():
        return Checkpoint(path, source="directory")
    if path.exists():
        raise CheckpointError(f"{path} is a file, a checkpoint is a directory", remedy=f"give {path.parent}")
    hub_id = HubId.parse(text)
    if hub_id is None:
        raise CheckpointError(
            f"there is no directory {text}, and it is not a Hub id either",
            remedy="give a checkpoint's directory, a Hub id (owner/name), or 'reference'",
        )
    if accept is not None:
        described = download(hub_id, files=DESCRIBING_FILES)
        accept(ModelConfig.from_dir(described.path))
        hub_id = HubId(id=hub_id.id, revision=described.revision)  # and no later one
    snapshot = download(hub_id)
    return Checkpoint(snapshot.path, source="hub", snapshot=snapshot)


class Checkpoint:
    """An open checkpoint; close it, or use it as a context manager. Get one from `open_checkpoint`.

    `path` is its directory; `source`, `id` and `revision` say where it came from (the latter two for a Hub id only);
    `name` is what a bundle calls it, `config` its configuration.
    """

    def __init__(self, path: Path, *, source: Source, snapshot: Snapshot | None = None) -> None:
        _require_files(path)
        self.path = path
        self.source: Source = source
        self.id = snapshot.id if snapshot else None
        self.revision = snapshot.revision if snapshot else None
        self.config = ModelConfig.from_dir(path)
        self._weights = open_weights(path)
        self._homes = {name: file for file in self._weights for name in _in_place_order(file)}
        self._digests: dict[str, FileEntry] = {}

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Arrays that were read stay valid."""
        for file in self._weights:
            file.close()

    @property
    def name(self) -> str:
        """Its Hub id, or the name of its directory."""
        return self.id or ("phiedge-reference" if self.source == "reference" else self.path.resolve().name)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing has to be said about weights that were given."""
        return ()

    def names(self) -> tuple[str, ...]:
        """Every tensor in the files, in the order of the files' names and of their places in them."""
        return tuple(self._homes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The stored shape, rows first."""
        return self._home(name).tensors[name].shape

    def dtype(self, name: str) -> Dtype:
        """The stored type."""
        return self._home(name).tensors[name].dtype

    def tensor(self, name: str, rows: slice | None = None) -> Array:
        """The stored tensor, or some of its rows, mapped and read-only; bfloat16 as its bits in uint16."""
        return self._home(name).read(name, rows)

    def float32(self, name: str, rows: slice | None = None) -> Float32:
        """The tensor or some of its rows as float32, exactly: every bfloat16 and float16 is a float32.

        Raises `TensorError` naming the tensor and the first index where it is NaN or infinite.
        """
        first_row = rows.indices(self.shape(name)[0])[0] if rows is not None else 0
        values = self.tensor(name, rows)
        return StoredRows(name=name, dtype=self.dtype(name), first_row=first_row, values=values).float32()

    def blocks(
        self, wanted: Collection[str], *, block_bytes: int, known: Mapping[str, FileEntry] | None = None
    ) -> Iterator[Block]:
        """The `wanted` tensors in the order of `names`, in one pass over the files, which are hashed on the way.

        `known` are hashes found before, of files that have not changed since. Raises `CheckpointError` for a file that
        changes meanwhile.
        """
        self._digests |= known or {}
        return read_in_order(
            self._weights, wanted, block_bytes=block_bytes, known=self.digests(), found=self._digests.__setitem__
        )

    def digests(self) -> Mapping[str, FileEntry]:
        """The size and SHA-256 of the weight files that `blocks` was told of or has read to their end, by name."""
        return dict(self._digests)

    def fingerprint(self) -> dict[str, str]:
        """Size, time of the last change and inode of every file, and the hash of every header."""
        prints = {path.name: _told_stamp(path) for path in self._companions()}
        for file in self._weights:
            prints[file.path.name] = f"{' '.join(map(str, file.stamp))} {file.header_sha256}"
        return prints

    def check(self) -> None:
        """Hold the files' tensors against the architecture's: none missing, none extra, none of another shape.

        Values are not read; `check_values` does. Raises `TensorError` naming the first tensor that is wrong.
        """
        expected = set()
        for name, spec in expected_tensors(self.config):
            expected.add(name)
            if name not in self._homes:
                raise TensorError(
                    f"{self.path} lacks the tensor {name} of shape {list(spec.shape)}",
                    tensor=name,
                    remedy="copy or download the checkpoint again, and see that config.json belongs to it",
                )
            if self.shape(name) != spec.shape:
                raise TensorError(
                    f"{name} has the shape {list(self.shape(name))}, config.json makes it {list(spec.shape)}",
                    tensor=name,
                    remedy="take config.json from the repository that the weights came from",
                )
        for name in self._homes:
            if name not in expected:
                raise TensorError(
                    f"{self.path} has a tensor that the architecture does not have: {name}",
                    tensor=name,
                    remedy="give the checkpoint as it was published; phiedge leaves no weights out silently",
                )

    def check_values(self, names: Iterable[str] | None = None, progress: Progress = silent) -> None:
        """Read the named tensors, or all that inference uses, and see that every value is finite.

        Runs `check` first. Needed only for what is copied without passing through `float32`. Memory stays at a few
        blocks of 16 MiB.
        """
        self.check()
        chosen = list(names) if names is not None else [n for n, spec in self.config.tensors().items() if spec.used]
        total_bytes = sum(self._home(name).tensors[name].size_bytes for name in chosen)
        with progress.task("check weights", total_bytes, "B") as advance:
            for name in chosen:
                for rows in _row_blocks(self.shape(name)):
                    self.float32(name, rows)
                advance(self._home(name).tensors[name].size_bytes)

    def files(self, progress: Progress = silent) -> dict[str, FileEntry]:
        """The size and SHA-256 of every file that was read, by name; what `blocks` has not hashed is hashed now."""
        paths = sorted([*self._companions(), *(file.path for file in self._weights)])
        found = {path.name: self._digests[path.name] for path in paths if path.name in self._digests}
        sizes_bytes = {path: path.stat().st_size for path in paths if path.name not in found}
        with progress.task("hash checkpoint", sum(sizes_bytes.values()), "B") as advance:
            for path, size_bytes in sizes_bytes.items():
                found[path.name] = FileEntry(sha256=hash_file(path), bytes=size_bytes)
                advance(size_bytes)
        return {path.name: found[path.name] for path in paths}

    def _companions(self) -> list[Path]:
        """The files beside the weights that are read."""
        return [self.path / name for name in (*_NEEDED, *_OPTIONAL) if (self.path / name).exists()]

    def _home(self, name: str) -> SafetensorsFile:
        if name not in self._homes:
            raise TensorError(
                f"{self.path} lacks the tensor {name}", tensor=name, remedy="copy or download the checkpoint again"
            )
        return self._homes[name]


def _require_files(path: Path) -> None:
    for name in _NEEDED:
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path} is not a checkpoint: it has no {name}",
                remedy=f"give a directory with {', '.join(_NEEDED)} and safetensors",
            )


def _in_place_order(file: SafetensorsFile) -> list[str]:
    return sorted(file.tensors, key=lambda name: (file.tensors[name].start, file.tensors[name].size_bytes))


def _told_stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    rows = max(1, _BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))
