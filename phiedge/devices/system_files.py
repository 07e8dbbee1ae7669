"""Text that a Linux system shows in files, below its root or below a recorded copy of it.

Any of it may be absent, unreadable, cut short or full of nonsense: what cannot be read is None, never an exception and
never a guess. In a recorded tree a link that starts at the root starts at the tree's root, so that nothing of the
machine at hand is taken for the recorded one.
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path

MOST_BYTES = 1 << 20
_MOST_DIGITS = 18  # more are nonsense, and int() refuses thousands of them
_MOST_LINKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFiles:
    """The files below `root`. Paths are written as they stand on the system, with or without the first slash."""

    root: Path = Path("/")
    _directories: dict[str, Path | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def text(self, path: str) -> str | None:
        """What a file says, without white space at both ends; NULs, which end texts of a device tree, are spaces."""
        data = _read(self._place(path))
        return None if data is None else data.decode("utf-8", errors="replace").replace("\0", " ").strip()

    def words(self, path: str) -> tuple[str, ...]:
        """A file's words."""
        return tuple((self.text(path) or "").split())

    def number(self, path: str) -> int | None:
        """A file that holds one whole number."""
        return whole_number(self.text(path))

    def names(self, directory: str, pattern: str) -> tuple[str, ...]:
        """What lies in a directory and matches, as paths of the system, in the order of their numbers."""
        place = self._place(directory)
        try:
            found = [] if place is None else [entry.name for entry in place.glob(pattern)]
        except OSError:
            found = []
        return tuple(f"{directory}/{name}" for name in sorted(found, key=natural_order))

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of that name."""
        place = self._place(path)
        try:
            return place is not None and place.exists()
        except OSError:
            return False

    def _place(self, path: str, links: int = 0) -> Path | None:
        """Where `path` lies below the root, its links followed as the recorded system would; None where they circle."""
        if self.root == Path("/"):
            return Path("/", path.lstrip("/"))
        above, _, name = path.rstrip("/").rpartition("/")
        if not name:
            return self.root
        if above not in self._directories:
            self._directories[above] = self._place(above, links)
        directory = self._directories[above]
        if directory is None or name == ".":
            return directory
        if name == "..":
            return directory if directory == self.root else directory.parent
        try:
            target = str((directory / name).readlink())
        except (OSError, ValueError):  # no link, or nothing there
            return directory / name
        if links == _MOST_LINKS:
            return None
        start = "" if target.startswith("/") else "/" + str(directory.relative_to(self.root))
        return self._place(f"{start}/{target}", links + 1)


def whole_number(text: str | None) -> int | None:
    """The number that `text` is, or None."""
    if text is None:
        return None
    digits = text.strip()
    bare = digits.removeprefix("-")
    return int(digits) if bare.isascii() and bare.isdigit() and len(bare) <= _MOST_DIGITS else None


def named_numbers(text: str | None) -> dict[str, int]:
    """Lines of a name and a number, as /proc and control groups write them; `kB` after it makes it bytes.

    `VmSize:   1234 kB` is 1263616, `inactive_file 1234` is 1234. Lines of another kind are passed over.
    """
    found = {}
    for line in (text or "").splitlines():
        words = line.split()
        value = whole_number(words[1]) if len(words) in (2, 3) else None
        if value is not None and value >= 0 and words[2:] in ([], ["kB"]):
            found[words[0].rstrip(":")] = value * 1024 if words[2:] else value
    return found


def _read(place: Path | None) -> bytes | None:
    """The start of a regular file; a pipe or a device could keep a reader waiting for ever."""
    if place is None:
        return None
    try:
        found = place.stat()
        if not stat.S_ISREG(found.st_mode):
            return None
        with place.open("rb") as file:
            return file.read(min(found.st_size or MOST_BYTES, MOST_BYTES))  # what /proc makes up has no size
    except (OSError, ValueError):  # a name with a NUL in it is a ValueError
        return None


def natural_order(name: str) -> tuple[int, str]:
    """A key that puts policy10 behind policy9."""
    digits = "".join(character for character in name if character.isascii() and character.isdigit())
    return (int(digits[:_MOST_DIGITS]) if digits else -1, name)
