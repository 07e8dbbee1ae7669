"""Checkpoints that the exporter corrupts without an error are refused before it runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fused_checkpoint import write_fused
from phiedge.engines.edge_llm.unsafe import check_safe
from phiedge.errors import CheckpointError, FormatError
from phiedge.exporters.checkpoints.tensor_file import TensorOut, write_file


@pytest.fixture
def checkpoint(awq_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(awq_checkpoint, tmp_path / "checkpoint"))


def edit(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_bytes())
    config["quantization_config"] |= changes
    path.write_text(json.dumps(config))


def test_what_phiedge_writes_is_read_rightly(awq_checkpoint: Path) -> None:
    assert check_safe(awq_checkpoint) == 95


def test_fused_projections_are_refused(awq_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="fused tensor .* cuts along the wrong axis and reports success"):
        check_safe(write_fused(awq_checkpoint, tmp_path / "fused"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"quant_method": "compressed-tensors"}, "is compressed-tensors, of which Edge-LLM leaves out"),
        ({"quant_method": "fp8"}, "is quantised as 'fp8'"),
        ({"group_size": 64}, "groups of 64 weights, Edge-LLM reads groups of 128"),
    ],
)
def test_what_it_would_skip_is_refused(checkpoint: Path, changes: dict[str, object], told: str) -> None:
    edit(checkpoint, **changes)
    with pytest.raises(FormatError, match=told):
        check_safe(checkpoint)


def test_a_model_that_would_lose_its_eyes_is_refused(checkpoint: Path) -> None:
    seeing = TensorOut.of("model.vision_tower.patch_embedding.weight", "F32", np.zeros((1, 1), dtype=np.float32))
    write_file(checkpoint / "vision.safetensors", [seeing])
    with pytest.raises(FormatError, match="would lose the eyes of .*: it skips model.vision_tower"):
        check_safe(checkpoint)


@pytest.mark.parametrize(("damage", "kind"), [("model.safetensors", FormatError), ("config.json", CheckpointError)])
def test_a_directory_that_holds_no_checkpoint_is_refused(
    checkpoint: Path, damage: str, kind: type[CheckpointError | FormatError]
) -> None:
    (checkpoint / damage).unlink()
    with pytest.raises(kind, match=damage.rpartition(".")[2]):
        check_safe(checkpoint)
