"""What a session keeps from one request to the next: features of pictures, and which rows the decoder's cache holds.

A picture is known by its content: the same file, or an array with the same pixels. Its features are kept by content
and grid, up to a number of bytes, those used last. A row of the cache is known by what was put into it: a token, or a
row of a picture's features at its grid. The rows that the next prompt has in common with those that stand in the cache,
from the first one on, are not computed again.

The same rows computed in other chunks are the same but for rounding, as the kernels sum in another order. A session
that keeps nothing is the default: there the same request always gives the same bits.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from phiedge.errors import UsageError
from phiedge.runtime.images import ImageSource, PictureSize
from phiedge.runtime.merge import RowPlan, TextRows
from phiedge.runtime.preprocess import Grid

DEFAULT_REUSE_BYTES = 256 * 2**20
"""Features of 10 pictures of the 15B model at its most visual tokens, or of 70 at 512."""

Content: TypeAlias = bytes
RowIds: TypeAlias = npt.NDArray[np.int64]

_KEPT_SIZES = 4096  # contents whose size is remembered
_UNKNOWN, _NEW = -1, -2  # a row that nothing is known of; a row of a picture that was not seen before
_ROWS_OF_A_PICTURE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureKey:
    """A picture as the model saw it: what was in it, and on which grid."""

    content: Content
    grid: Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a prompt finds: how many of its first rows are in the cache, and of which pictures nothing is to compute."""

    rows: int = 0
    pictures: frozenset[int] = frozenset()


NOTHING_KEPT = Kept()


class Memory:
    """Everything that is kept; `capacity` positions are in the cache, `most_bytes` may go to features."""

    def __init__(self, capacity: int, most_bytes: int) -> None:
        if most_bytes < 0:
            raise UsageError(f"reuse_bytes must not be negative, not {most_bytes}")
        self._most_bytes = most_bytes
        self._bytes = 0
        self._features: OrderedDict[PictureKey, npt.NDArray[Any]] = OrderedDict()
        self._sizes: OrderedDict[Content, tuple[int, int]] = OrderedDict()
        self._serials: OrderedDict[PictureKey, int] = OrderedDict()
        self._next_serial = 1
        self._held: RowIds = np.full(capacity, _UNKNOWN, dtype=np.int64)

    def features(self, key: PictureKey) -> npt.NDArray[Any] | None:
        """The features of a picture, if they are kept; read them, do not write them."""
        found = self._features.get(key)
        if found is not None:
            self._features.move_to_end(key)
        return found

    def keep_features(self, key: PictureKey, features: npt.NDArray[Any]) -> None:
        """Keep a copy of a picture's features, in place of those that were not used for longest."""
        if features.nbytes > self._most_bytes or key in self._features:
            return
        while self._bytes + features.nbytes > self._most_bytes:
            _, dropped = self._features.popitem(last=False)
            self._bytes -= dropped.nbytes
        self._features[key] = features.copy()
        self._bytes += features.nbytes

    def size(self, content: Content) -> tuple[int, int] | None:
        """Width and height, upright, of a picture that was decoded before."""
        return self._sizes.get(content)

    def keep_size(self, content: Content, width: int, height: int) -> None:
        """Remember the size of a picture, so that its grid is known without decoding it again."""
        self._sizes[content] = (width, height)
        if len(self._sizes) > _KEPT_SIZES:
            self._sizes.popitem(last=False)

    def upright(self, sizes: Sequence[PictureSize], contents: Sequence[Content]) -> list[PictureSize]:
        """The sizes, with those of known pictures as they are when upright."""
        known = [self.size(content) for content in contents]
        return [
            size if found is None else replace(size, width=found[0], height=found[1])
            for size, found in zip(sizes, known, strict=True)
        ]

    def row_ids(self, plan: RowPlan, keys: Sequence[PictureKey]) -> RowIds:
        """What stands in each row of a plan."""
        ids = np.empty(plan.length, dtype=np.int64)
        for part in plan.rows:
            out = ids[part.start : part.start + part.count]
            if isinstance(part, TextRows):
                out[:] = part.tokens
            else:
                serial = self._serials.get(keys[part.picture])
                out[:] = _NEW if serial is None else _first_id(serial) - np.arange(part.count)
        return ids

    def number(self, keys: Sequence[PictureKey]) -> None:
        """Give pictures that are about to be read a number each, so that their rows are known again."""
        for key in keys:
            if key not in self._serials:
                self._serials[key] = self._next_serial
                self._next_serial += 1
            self._serials.move_to_end(key)
            if len(self._serials) > _KEPT_SIZES:
                self._serials.popitem(last=False)

    def find(self, plan: RowPlan, keys: Sequence[PictureKey], *, length: int) -> Kept:
        """What is kept of a prompt, where `length` positions of the cache are computed. One row is always left to
        compute, as the answer begins with what comes after it."""
        wanted = self.row_ids(plan, keys)
        most = min(length, plan.length - 1)
        different = np.flatnonzero(wanted[:most] != self._held[:most])
        rows = int(different[0]) if different.size else most
        pictures = frozenset(
            part.picture
            for part in plan.rows
            if not isinstance(part, TextRows)
            and (part.start + part.count <= rows or keys[part.picture] in self._features)
        )
        return Kept(rows=rows, pictures=pictures)

    def hold(self, start: int, ids: RowIds) -> None:
        """Note what is about to be computed into the positions from `start` on."""
        self._held[start : start + ids.size] = ids

    def hold_token(self, position: int, token: int) -> None:
        """Note the token that is about to be computed into one position."""
        self._held[position] = token

    def forget_rows(self) -> None:
        """Nothing is known of the cache any more."""
        self._held.fill(_UNKNOWN)


def content_of(source: ImageSource) -> Content:
    """A digest of what a picture is made of; a path is not one, as what it names can change."""
    digest = hashlib.sha256()
    if isinstance(source, bytes):
        digest.update(b"encoded")
        digest.update(source)
    elif isinstance(source, Image.Image):
        orientation = source.getexif().get(0x0112, 1)
        described = (source.mode, source.size, source.getpalette(), sorted(map(str, source.info)), orientation)
        digest.update(repr(described).encode())
        digest.update(repr(source.info.get("transparency")).encode())
        digest.update(source.tobytes())
    else:
        array = np.ascontiguousarray(source)
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(array.data)
    return digest.digest()


def _first_id(serial: int) -> int:
    return -_ROWS_OF_A_PICTURE * serial
