"""Recorded systems: each is one text file, which unpacks into a tree that `--sysroot` takes.

== /path            a file; its lines follow. \\0 is a NUL, and a backslash at the end means: no end of line.
== /path -> target  a link
"""

from pathlib import Path

SYSROOTS = Path(__file__).parents[1] / "devices" / "sysroots"
TREES = tuple(sorted(path.stem for path in SYSROOTS.glob("*.txt")))


def unpack(name: str, root: Path) -> Path:
    """Write the tree of that name below `root`, and return where it stands."""
    for path, text in read(name).items():
        place, _, target = path.partition(" -> ")
        file = root / name / place.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if target:
            file.symlink_to(target)
        else:
            file.write_bytes(text.encode())
    return root / name


def read(name: str) -> dict[str, str]:
    """The files of the tree by path; a link's path has its target behind an arrow."""
    files: dict[str, str] = {}
    for section in ("\n" + (SYSROOTS / f"{name}.txt").read_text(encoding="utf-8")).split("\n== ")[1:]:
        path, _, text = section.partition("\n")
        files[path] = text.removesuffix("\\").replace("\\0", "\0") if text.endswith("\\") else text + "\n"
    return files
