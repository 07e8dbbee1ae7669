"""The guide's Python blocks, run as a reader would, on a bundle that has a profile of this machine."""

import gc
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phiedge.bundle import Bundle
from phiedge.runtime.profile.profiling import measure_profile
from phiedge.runtime.profile.store import write_profile

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "deadlines.md"


def test_the_guide_runs(oracle_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(shutil.copytree(oracle_bundle.path, tmp_path / "bundle"))
    write_profile(bundle, measure_profile(bundle, seconds=0.1))
    Image.fromarray(np.zeros((320, 320, 3), dtype=np.uint8)).save(tmp_path / "screen.png")
    monkeypatch.chdir(tmp_path)
    # The deadlines of the guide are those of a device; on a busy machine with tests beside, an hour.
    text = re.sub(r"(deadline|ttft|stall)_ms=\d+", r"\1_ms=3_600_000", GUIDE.read_text())
    namespace: dict[str, object] = {}
    try:
        for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            exec(compile(block, str(GUIDE), "exec"), namespace)
    finally:
        gc.unfreeze()
    assert namespace["result"].outcome.promised
