"""The guide's Python blocks, run one after the other as a reader would."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "python.md"


def test_the_guide_runs_from_its_first_block_to_its_last(
    oracle_bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").symlink_to(oracle_bundle.path)
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "screen.png")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), namespace)
    assert "the prompt has 1 <image> placeholder, 0 images were given" in capsys.readouterr().out
