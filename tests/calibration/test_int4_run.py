from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fake_checkpoints import FakeDims, write_checkpoint
from phiedge.calibration.artefact import LayerArtefact
from phiedge.calibration.decoder_layer import linear_name
from phiedge.calibration.int4_run import Calibration, calibrate
from phiedge.calibration.layer_run import LayerRun
from phiedge.calibration.methods import Settings
from phiedge.errors import ExportError, TensorError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint

SETTINGS = Settings(group_size=32)
LAYERS = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", FakeDims(num_hidden_layers=LAYERS))
    with open_checkpoint(path) as checkpoint:
        yield checkpoint


def run(checkpoint, samples, directory: Path, settings: Settings = SETTINGS) -> Calibration:
    return calibrate(checkpoint, samples, settings, directory, fingerprint={"model": "tiny"})


@pytest.fixture(scope="module")
def calibrated(checkpoint, text_samples, tmp_path_factory) -> Calibration:
    return run(checkpoint, text_samples(), tmp_path_factory.mktemp("whole"))


def same(a: LayerArtefact, b: LayerArtefact) -> bool:
    return all(
        np.array_equal(a.weights[linear].packed, b.weights[linear].packed)
        and np.array_equal(a.weights[linear].scales, b.weights[linear].scales)
        for linear in a.weights
    )


def test_every_layer_leaves_an_artefact_and_a_report(calibrated) -> None:
    for index in range(LAYERS):
        report = calibrated.layer(index).report
        assert report.layer == index
        assert [linear.linear for linear in report.linears] == ["qkv", "o", "gate_up", "down"]
        assert all(linear.errors[linear.method] <= min(linear.errors.values()) / 0.97 for linear in report.linears)
        assert report.relative_error is not None
        assert 0 < report.relative_error < 0.1


def test_the_error_is_told_by_kind_of_row(calibrated) -> None:
    assert set(calibrated.divergence) == {"all", "text"}
    assert calibrated.divergence["all"].kl_mean > 0
    assert 0.5 < calibrated.divergence["all"].top1_agreement <= 1


def test_calibration_is_nearer_than_rounding(calibrated, checkpoint, text_samples, tmp_path) -> None:
    rounded = run(checkpoint, text_samples(), tmp_path, Settings(methods=("rtn",), group_size=32))
    assert calibrated.divergence["all"].kl_mean < 0.85 * rounded.divergence["all"].kl_mean


@pytest.mark.parametrize("killed_in", range(LAYERS))
def test_what_was_killed_goes_on_to_the_same_codes(
    calibrated, checkpoint, text_samples, tmp_path, monkeypatch, killed_in
) -> None:
    ran: list[int] = []

    real = LayerRun.code

    def code(layer, before, after):
        ran.append(layer.index)
        if ran.count(killed_in) == 1 and layer.index == killed_in:
            after.write(0, torch.zeros(80, layer.run.source.config.hidden_size))
            raise KeyboardInterrupt
        return real(layer, before, after)

    monkeypatch.setattr(LayerRun, "code", code)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, text_samples(), tmp_path)
    again = run(checkpoint, text_samples(), tmp_path)
    assert ran == [*range(killed_in + 1), *range(killed_in, LAYERS)], "layers that were done are not done again"
    assert all(same(calibrated.layer(i), again.layer(i)) for i in range(LAYERS))
    assert again.divergence == calibrated.divergence


def test_other_settings_start_anew(checkpoint, text_samples, tmp_path) -> None:
    run(checkpoint, text_samples(), tmp_path, Settings(methods=("rtn",), group_size=32))
    other = run(checkpoint, text_samples(), tmp_path, Settings(methods=("clip",), group_size=32))
    assert {linear.method for linear in other.layer(0).report.linears} == {"clip"}


def test_a_second_call_reads_what_the_first_left(checkpoint, text_samples, tmp_path, monkeypatch) -> None:
    first = run(checkpoint, text_samples(), tmp_path)
    monkeypatch.setattr(LayerRun, "code", None)
    assert run(checkpoint, text_samples(), tmp_path).divergence == first.divergence


def test_an_artefact_that_is_damaged_is_told(checkpoint, text_samples, tmp_path) -> None:
    calibration = run(checkpoint, text_samples(), tmp_path)
    path = tmp_path / "layer-001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ExportError, match="cannot be read"):
        calibration.layer(1)


def test_a_weight_that_is_not_finite_is_named(text_samples, tmp_path) -> None:
    name = linear_name(1, "o")
    damaged = np.zeros((64, 64), np.float32)
    damaged[3, 4] = np.nan
    path = write_checkpoint(tmp_path / "damaged", replace={name: damaged})
    with open_checkpoint(path) as checkpoint, pytest.raises(TensorError, match=r"o_proj.weight\[3, 4\] is nan"):
        run(checkpoint, text_samples(), tmp_path / "work")


def test_rows_that_are_not_finite_are_told_with_layer_and_sample(text_samples, tmp_path) -> None:
    huge = np.full((64,), 3e38, np.float32)
    path = write_checkpoint(tmp_path / "huge", replace={"model.layers.1.post_attention_layernorm.weight": huge})
    with open_checkpoint(path) as checkpoint, pytest.raises(ExportError, match=r"sample sample 0: .* layer 1, gate_up"):
        run(checkpoint, text_samples(), tmp_path / "work")


def test_a_head_of_4_bits_is_calibrated_by_a_method_that_smooths_everything_else(
    checkpoint, text_samples, tmp_path
) -> None:
    settings = Settings(methods=("awq+gptq",), group_size=32, head_bits=4)
    found = run(checkpoint, text_samples(), tmp_path, settings)
    assert found.head().report.method == "gptq"
    assert {linear.method for linear in found.layer(0).report.linears} == {"awq+gptq"}
