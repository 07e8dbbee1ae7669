"""Runs of bytes in the files that weights lie in, and how much of them several dialects read together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Extent:
    """The bytes from `begin` to before `end` of a file."""

    file: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The weight files of a bundle, and who reads what of them.

    `stored_bytes` is the size of the files; `read_bytes` what each dialect reads, every byte once. `shared_bytes` are
    read by more than one dialect; `saved_bytes` is what the bundle would be larger by, had each dialect its own.
    `unread_bytes` lie between weights, which begin where a page does.
    """

    stored_bytes: int
    read_bytes: Mapping[str, int]
    shared_bytes: int
    saved_bytes: int
    unread_bytes: int


def covered_bytes(extents: Iterable[Extent]) -> int:
    """How many bytes lie in any of `extents`."""
    return sum(extent.end - extent.begin for extent in _joined(extents))


def sharing(stored_bytes: int, extents: Mapping[str, Iterable[Extent]]) -> Sharing:
    """What the dialects, whose weights lie at `extents`, share of files of `stored_bytes`."""
    joined = {dialect: _joined(of_dialect) for dialect, of_dialect in extents.items()}
    read_bytes = {dialect: sum(extent.end - extent.begin for extent in found) for dialect, found in joined.items()}
    together = covered_bytes(extent for found in joined.values() for extent in found)
    return Sharing(
        stored_bytes=stored_bytes,
        read_bytes=read_bytes,
        shared_bytes=_covered_twice(extent for found in joined.values() for extent in found),
        saved_bytes=sum(read_bytes.values()) - together,
        unread_bytes=stored_bytes - together,
    )


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes as runs that do not touch, in order."""
    runs: list[Extent] = []
    for extent in sorted(set(extents)):
        if runs and runs[-1].file == extent.file and extent.begin <= runs[-1].end:
            runs[-1] = Extent(file=extent.file, begin=runs[-1].begin, end=max(runs[-1].end, extent.end))
        else:
            runs.append(extent)
    return runs


def _covered_twice(extents: Iterable[Extent]) -> int:
    """How many bytes lie in two or more of `extents`."""
    edges: defaultdict[tuple[str, int], int] = defaultdict(int)
    for extent in extents:
        edges[extent.file, extent.begin] += 1
        edges[extent.file, extent.end] -= 1
    count = total = previous = 0
    for (_, place), step in sorted(edges.items()):
        if count > 1:
            total += place - previous
        count, previous = count + step, place
    return total
