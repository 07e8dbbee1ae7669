"""An environment with a stand-in for Edge-LLM's exporter: `bin/python`, and its package with a release of its own."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "engines" / "edge_llm" / "recorded"
STAND_IN = Path(__file__).with_name("edgellm_stand_in.py")


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """The environment at `path`, and how its exporter behaves from now on."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def scripts(self) -> Path:
        return self.path / "site" / "tensorrt_edgellm" / "scripts"

    def behave(self, behaviour: str) -> "StandIn":
        (self.scripts / "behaviour").write_text(behaviour)
        return self

    @property
    def process(self) -> int:
        """The process id of its last run."""
        return int((self.scripts / "started").read_text().split()[0])


def make_stand_in(path: Path, *, version: str | None = "0.11.0", behaviour: str = "works") -> StandIn:
    """Make the environment; without a `version` the package is not in it."""
    stand_in = StandIn(path=path)
    stand_in.scripts.mkdir(parents=True)
    stand_in.python.parent.mkdir()
    stand_in.python.write_text(f'#!/bin/sh\nPYTHONPATH="{path / "site"}" exec "{sys.executable}" "$@"\n')
    stand_in.python.chmod(0o755)
    for package in (stand_in.scripts, stand_in.scripts.parent):
        (package / "__init__.py").touch()
    shutil.copy(STAND_IN, stand_in.scripts / "export.py")
    (stand_in.scripts / "recorded").write_text(str(RECORDED))
    if version is not None:
        told = path / "site" / f"tensorrt_edgellm-{version}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt-edgellm\nVersion: {version}\n")
    return stand_in.behave(behaviour)
