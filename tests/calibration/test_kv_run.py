from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fake_checkpoints import write_checkpoint
from phiedge.calibration import kv_run
from phiedge.calibration.kv_run import find_cache_scales
from phiedge.errors import ExportError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint

KEY = {"weights": "these"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    with open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")) as checkpoint:
        yield checkpoint


def test_every_layer_gets_scales_and_next_to_nothing_is_lost(checkpoint, text_samples, tmp_path) -> None:
    found = find_cache_scales(checkpoint, text_samples(), tmp_path, fingerprint=KEY)
    config = checkpoint.config
    assert len(found) == config.num_layers
    for layer in found:
        for _, side in layer.sides():
            assert side.channels.shape == (config.num_kv_heads * config.head_dim,)
            assert (side.channels > 0).all()
            assert side.channel_error < 1e-3


def test_a_run_that_was_killed_goes_on_with_the_first_layer_without_scales(
    checkpoint, text_samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_cache_scales(checkpoint, text_samples(), tmp_path / "whole", fingerprint=KEY)
    read, killed = kv_run.read_tensor, []

    def killing(source, name, rows=None) -> torch.Tensor:
        if name.startswith("model.layers.1.") and not killed:
            killed.append(name)
            raise KeyboardInterrupt
        if killed and name.startswith("model.layers.0."):
            raise AssertionError("the first layer was computed again")
        return read(source, name, rows)

    monkeypatch.setattr(kv_run, "read_tensor", killing)
    with pytest.raises(KeyboardInterrupt):
        find_cache_scales(checkpoint, text_samples(), tmp_path / "killed", fingerprint=KEY)
    again = find_cache_scales(checkpoint, text_samples(), tmp_path / "killed", fingerprint=KEY)
    assert [layer.to_json() for layer in again] == [layer.to_json() for layer in whole]
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"kv-scales.json", "kv-000.json", "kv-001.json"}


def test_what_was_found_for_other_weights_is_thrown_away(checkpoint, text_samples, tmp_path: Path) -> None:
    find_cache_scales(checkpoint, text_samples(), tmp_path, fingerprint=KEY)
    (tmp_path / "kv-000.json").write_text("{}")
    found = find_cache_scales(checkpoint, text_samples(), tmp_path, fingerprint={"weights": "others"})
    assert found[0].key.largest > 0


def test_weights_that_give_no_numbers_are_told_with_layer_and_sample(
    checkpoint, text_samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = kv_run.read_tensor

    def huge(source, name, rows=None) -> torch.Tensor:
        values = read(source, name, rows)
        return values * np.inf if name == "model.layers.1.self_attn.qkv_proj.weight" else values

    monkeypatch.setattr(kv_run, "read_tensor", huge)
    with pytest.raises(ExportError, match="sample sample 0: the keys of layer 1 are not all numbers"):
        find_cache_scales(checkpoint, text_samples(), tmp_path, fingerprint=KEY)
    assert not (tmp_path / "kv-001.json").exists()
