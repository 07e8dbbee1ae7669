"""Rows of all samples in one file, read and written one sample at a time: what a layer hands to the next.

They are on the disk, because those of a large model and many samples do not fit beside its Gram matrices; the system
keeps in memory what it has room for.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_RAW: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype("<f4"), torch.bfloat16: np.dtype("<i2")}


class RowFile:
    """For each of `lengths` a tensor [length, width] of `dtype`. A file that is not whole must be written in order."""

    def __init__(self, path: Path, lengths: Sequence[int], width: int, dtype: torch.dtype = torch.float32) -> None:
        self.path = path
        self._starts = [0]
        for length in lengths:
            self._starts.append(self._starts[-1] + length)
        self._width = width
        self._dtype = dtype

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return self._starts[-1] * self._width * self._dtype.itemsize

    @property
    def is_whole(self) -> bool:
        """Whether the file has the size that it should."""
        return self.path.is_file() and self.path.stat().st_size == self.size_bytes

    def read(self, index: int) -> Tensor:
        """The rows of one sample; a copy."""
        first, stop = self._starts[index], self._starts[index + 1]
        raw = np.fromfile(
            self.path,
            _RAW[self._dtype],
            count=(stop - first) * self._width,
            offset=first * self._width * self._dtype.itemsize,
        )
        return torch.from_numpy(raw).view(self._dtype).view(stop - first, self._width)

    def write(self, index: int, rows: Tensor) -> None:
        """Store the rows of one sample."""
        first, stop = self._starts[index], self._starts[index + 1]
        assert rows.shape == (stop - first, self._width), (rows.shape, first, stop)
        raw = rows.to(self._dtype).contiguous()
        raw = raw.view(torch.int16) if self._dtype == torch.bfloat16 else raw
        with self.path.open("r+b" if index else "wb") as file:
            file.seek(first * self._width * self._dtype.itemsize)
            file.write(raw.numpy().data)

    def renamed(self, path: Path) -> "RowFile":
        """The same file on the disk for good, under its final name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(path)
        lengths = [stop - first for first, stop in pairwise(self._starts)]
        return RowFile(path, lengths, self._width, self._dtype)
