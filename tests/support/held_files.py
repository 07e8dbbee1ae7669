"""A recorded system held in memory: as `SystemFiles`, but without a disk, so that thousands of copies take seconds."""

from fnmatch import fnmatch
from pathlib import Path

from phiedge.devices.probe.surfaces import Surfaces
from phiedge.devices.system_files import SystemFiles, natural_order


class HeldFiles(SystemFiles):
    """Files by path; directories are what paths pass through."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(root=Path("/held"))
        object.__setattr__(self, "files", files)

    def text(self, path: str) -> str | None:
        data = self.files.get(path)
        return None if data is None else data.decode("utf-8", errors="replace").replace("\0", " ").strip()

    def names(self, directory: str, pattern: str) -> tuple[str, ...]:
        below = {
            path.removeprefix(f"{directory}/").partition("/")[0] for path in self.files if path.startswith(directory)
        }
        return tuple(f"{directory}/{name}" for name in sorted(below, key=natural_order) if fnmatch(name, pattern))

    def exists(self, path: str) -> bool:
        return any(f"{held}/".startswith(f"{path}/") for held in self.files)


def held(files: dict[str, str]) -> dict[str, bytes]:
    """Files as `recorded_trees.read` gives them, each link a copy of what it leads to."""
    plain = {path: text.encode() for path, text in files.items() if " -> " not in path}
    links = dict(path.split(" -> ") for path in files if " -> " in path)
    return plain | {path: plain[target] for path, target in links.items()}


def surfaces(files: dict[str, bytes]) -> Surfaces:
    return Surfaces(files=HeldFiles(files))
