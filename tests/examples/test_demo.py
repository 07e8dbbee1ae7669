"""`examples/demo.sh` shows each command as it is typed, and the README shows the same."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_commands_of_the_demo(tmp_path: Path) -> None:
    stand_in = tmp_path / "phiedge"
    stand_in.write_text('#!/bin/sh\nfor word in "$@"; do echo "| $word"; done\n')
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run([ROOT / "examples/demo.sh"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    shown = [line for line in run.stdout.splitlines() if line.startswith("$ ")]
    assert shown == re.findall(r"^\$ .*", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert "| Where do I click for PAY?" in run.stdout, "and passes each word as one"
