"""The guide's Python blocks, run one after the other as a reader would."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phiedge.bundle import Bundle

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "structured.md"


def test_the_guide_runs_from_its_first_block_to_its_last(
    oracle_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").symlink_to(oracle_bundle.path)
    Image.fromarray(np.zeros((96, 128, 3), dtype=np.uint8)).save(tmp_path / "screen.png")
    monkeypatch.chdir(tmp_path)
    # The deadline of the guide is that of a device; on a busy machine with tests beside, an hour.
    text = re.sub(r"deadline_ms=\d+", "deadline_ms=3_600_000", GUIDE.read_text())
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, str(GUIDE), "exec"), namespace)
    assert namespace["result"].value["colour"] in ("red", "green", "blue")
    assert len(namespace["place"].value) == 4
