"""The rows of several choices at once between two layers, on the disk: where a measurement that was killed goes on.

    layer k is done -> rows.part, then its name partial-<of what>-<k>.rows, then those of layer k - 1 are removed

A choice joins where its first quantised linear stands: before, its rows are the original's, and are not kept twice.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample, digest_of

_PART = "partial.part"
_PREFIX = "partial-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedRows:
    """Behind `layers` layers: the original's rows [t, hidden] by sample, and each choice's, None before it joins."""

    layers: int
    original: list[Tensor]
    chosen: list[list[Tensor] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialRows:
    """Files in `directory` for `samples`; `joins` is the layer at which each choice begins to differ.

    `key` is what the measurement is known by; what another left is removed when something is kept.
    """

    directory: Path
    samples: Sequence[Sample]
    width: int
    joins: Sequence[int]
    key: str

    def latest(self, layers: int) -> PassedRows | None:
        """What is there behind the most layers, of at most `layers`."""
        for done in range(layers, 0, -1):
            file = self._file(done)
            if file.is_whole:
                return self._read(file, done)
        return None

    def keep(self, passed: PassedRows) -> None:
        """Write it under its name, all at once, and remove what it replaces."""
        part = self._file(passed.layers, self.directory / _PART)
        groups = [passed.original, *(rows for rows in passed.chosen if rows is not None)]
        for index, rows in enumerate(rows for group in groups for rows in group):
            part.write(index, rows)
        kept = part.renamed(self._path(passed.layers))
        for path in self.directory.glob(f"{_PREFIX}*.rows"):
            if path != kept.path:
                path.unlink()

    def _read(self, file: RowFile, layers: int) -> PassedRows:
        places = iter(range(len(self.samples) * (1 + self._joined(layers))))

        def rows() -> list[Tensor]:
            return [file.read(next(places)) for _ in self.samples]

        return PassedRows(
            layers=layers, original=rows(), chosen=[rows() if join < layers else None for join in self.joins]
        )

    def _joined(self, layers: int) -> int:
        return sum(join < layers for join in self.joins)

    def _file(self, layers: int, path: Path | None = None) -> RowFile:
        lengths = [sample.rows for sample in self.samples] * (1 + self._joined(layers))
        return RowFile(path or self._path(layers), lengths, self.width)

    def _path(self, layers: int) -> Path:
        return self.directory / f"{_PREFIX}{self.key}-{layers:03d}.rows"


def measurement_key(key: str, samples: Sequence[Sample], choices: Sequence[Collection[tuple[int, str]]]) -> str:
    """What a measurement of `choices` on `samples` is known by, where `key` says of which weights."""
    told = json.dumps([key, digest_of(samples), [sorted(choice) for choice in choices]])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
