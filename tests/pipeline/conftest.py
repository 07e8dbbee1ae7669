"""Examples to calibrate on, and a checkpoint whose widths suit a GPU."""

import json
from pathlib import Path

import numpy as np
import pytest

from fake_checkpoints import FakeDims, write_checkpoint


@pytest.fixture(scope="session")
def text_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 questions with answers, without pictures."""
    path = tmp_path_factory.mktemp("data") / "examples.jsonl"
    rng = np.random.default_rng(1)
    lines = [
        {"prompt": f"What is {rng.integers(1000)} and {number}?", "answer": "Nobody knows. " * 8}
        for number in range(16)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer whose widths are multiples of 128."""
    dims = FakeDims(hidden_size=128, intermediate_size=256, num_hidden_layers=1)
    return write_checkpoint(tmp_path_factory.mktemp("wide") / "checkpoint", dims)
