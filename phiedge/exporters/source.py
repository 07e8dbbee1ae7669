"""What an export needs of a place that weights come from, whether they lie on a disk or are made up on the way.

A source is read once, from its first byte to its last: it says in which order it holds its tensors (`names`), and
`blocks` gives them in that order. Whoever reads arranges its own output accordingly.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from phiedge.bundle import FileEntry
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.safetensors_file import Array, Dtype
from phiedge.progress import Progress, silent

SourceKind: TypeAlias = Literal["reference", "directory", "hub", "random"]


def _keep() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive rows of one tensor, as they are stored: `dtype`, row-major; bfloat16 as its bits in uint16.

    `load` gives them, as an array of `shape`; it is called once, in whatever thread works on the block, and may do the
    work there. The array is read-only and valid until `release`, which is called exactly once, also after an error.
    """

    name: str
    dtype: Dtype
    first_row: int
    shape: tuple[int, ...]
    load: Callable[[], Array]
    release: Callable[[], None] = _keep

    @property
    def rows(self) -> slice:
        """The rows along the tensor's first axis."""
        return slice(self.first_row, self.first_row + self.shape[0])


class WeightSource(Protocol):
    """The part of a source that the weight stream reads."""

    def names(self) -> tuple[str, ...]:
        """Every tensor, in the order in which `blocks` gives them."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The stored shape, rows first."""
        ...

    def dtype(self, name: str) -> Dtype:
        """The stored type."""
        ...

    def blocks(
        self, wanted: Collection[str], *, block_bytes: int, known: Mapping[str, FileEntry] | None = None
    ) -> Iterator[Block]:
        """The tensors of `wanted` in the order of `names`, in blocks of whole rows of at most about `block_bytes`.

        What is not wanted may be read, too, to hash it; `known` are hashes that need not be found again. Values do not
        depend on `block_bytes`, and need not be finite. Closing the iterator frees what it holds.
        """
        ...

    def digests(self) -> Mapping[str, FileEntry]:
        """Size and SHA-256 of the files that were read to their end so far, by name; safe in any thread."""
        ...


class ModelSource(WeightSource, Protocol):
    """All that an export needs of a source; `Checkpoint` is one.

    `name` is what the bundle calls it; `path` is a directory with config.json, the tokenizer and the chat template;
    `revision` is the commit of a Hub model, or says the seed of random weights; `notes` go into the report.
    """

    @property
    def name(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def path(self) -> Path: ...

    @property
    def source(self) -> SourceKind: ...

    @property
    def id(self) -> str | None: ...

    @property
    def revision(self) -> str | None: ...

    @property
    def config(self) -> ModelConfig: ...

    def check(self) -> None:
        """Hold names and shapes against the architecture's. Raises `TensorError`."""
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """What must be the same for a later process to go on where this one ended; cheap, values are not read."""
        ...

    def files(self, progress: Progress = silent) -> dict[str, FileEntry]:
        """Size and SHA-256 of every file that the model came from; what `blocks` has not read is read now."""
        ...

    def close(self) -> None: ...
