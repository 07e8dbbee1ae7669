"""What every way of calibrating a decoder begins with: samples, what their rows count for, and a directory to work in.

What was killed goes on there: a note in the directory says what it belongs to, and what belongs to something else is
thrown away.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from phiedge.calibration.decoder_layer import TensorReader
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample, digest_of, row_roles
from phiedge.calibration.statistics import RowRoles
from phiedge.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`samples` on their way through the decoder of `source`; files go to `directory`.

    `compute` is the type of the products: the checkpoint's own, or float32. Raises `InputError` for too few samples.
    """

    source: TensorReader
    samples: Sequence[Sample]
    directory: Path
    compute: torch.dtype = torch.float32
    progress: Progress = silent
    roles: Sequence[RowRoles] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", row_roles(self.samples))

    def key(self, algorithm: str, fingerprint: Mapping[str, str], *settings: Mapping[str, Any]) -> str:
        """What the results depend on, as a hash; `fingerprint` is what the weights are known by."""
        told = [algorithm, torch.__version__, dict(fingerprint), digest_of(self.samples), *settings, str(self.compute)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def take_up(self, note: str, key: str) -> None:
        """Make the directory, empty but for what a run with the same `key` left; the file `note` holds the key."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / note
        if not file.exists() or file.read_text(encoding="utf-8") != key:
            for path in self.directory.iterdir():
                path.unlink()
            file.write_text(key, encoding="utf-8")

    def rows(self, name: str) -> RowFile:
        """The file of that name, of rows of the residual for every sample."""
        return RowFile(self.directory / name, self.lengths, self.source.config.hidden_size)

    @property
    def lengths(self) -> list[int]:
        """The rows of each sample."""
        return [sample.rows for sample in self.samples]

    def each(self, told: str) -> Iterator[int]:
        """The places of all samples, as a task of the progress."""
        with self.progress.task(told, len(self.samples), "samples") as advance:
            for place in range(len(self.samples)):
                yield place
                advance(1)
