"""Paths inside a bundle: relative, with forward slashes, and never out of it.

A bundle may come from anywhere. A path that its manifest names is checked as text before it is joined to anything, and
the file that it leads to is checked for links that leave the bundle.
"""

from pathlib import Path, PurePosixPath

from phiedge.errors import BundleError

REMEDY = "do not use this bundle: phiedge writes no such path; export it again from a checkpoint that you trust"


def check_relative(path: str, where: str) -> str:
    """Return `path` if it stays inside any directory that it is joined to; otherwise raise `BundleError`."""
    parts = PurePosixPath(path).parts
    stays = (
        path not in ("", ".")
        and not path.startswith("/")
        and ".." not in parts
        and "\\" not in path
        and ":" not in path
        and path.isprintable()
        and str(PurePosixPath(path)) == path
    )
    if not stays:
        raise BundleError(
            f"{where} names the path {path!r}, which is not a plain path inside the bundle", remedy=REMEDY
        )
    return path


def locate(root: Path, path: str, where: str) -> Path:
    """The file `path` of the bundle at `root`, which no link leads out of it. The file itself need not exist."""
    found = root / check_relative(path, where)
    if not found.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{where}: {path!r} is a link that leaves the bundle, to {found.resolve()}", remedy=REMEDY)
    return found
