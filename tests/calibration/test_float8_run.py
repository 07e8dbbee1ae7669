from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fake_checkpoints import write_checkpoint
from phiedge.calibration.decoder_layer import LINEARS, linear_name
from phiedge.calibration.float8_calibrated import Float8Quantiser
from phiedge.calibration.float8_linear import Float8Settings
from phiedge.calibration.float8_run import Float8Calibration, calibrate_float8
from phiedge.calibration.layer_run import LayerRun
from phiedge.errors import ExportError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.exporters.values import StoredRows

FEW = Float8Settings(methods=("rtn", "gptq"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    with open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")) as checkpoint:
        yield checkpoint


def calibrated(checkpoint, samples, path: Path) -> Float8Calibration:
    return calibrate_float8(checkpoint, samples, FEW, path, fingerprint=checkpoint.fingerprint())


@pytest.fixture(scope="module")
def whole(checkpoint, text_samples, tmp_path_factory) -> Float8Calibration:
    return calibrated(checkpoint, text_samples(), tmp_path_factory.mktemp("whole"))


def test_every_linear_has_a_scale_of_its_input_and_next_to_nothing_is_lost(whole, checkpoint) -> None:
    scales = whole.activation_scales()
    assert list(scales) == [linear_name(layer, linear) for layer in range(whole.layers) for linear in LINEARS]
    assert min(scales.values()) > 0
    for layer in (whole.layer(index).report for index in range(whole.layers)):
        assert 0 < (layer.relative_error or 0) < 0.01
        for told in layer.linears:
            assert told.errors[told.method] == min(told.errors.values())
            assert told.input_scale is not None
            assert set(told.input_scale.errors) == {"max", "percentile", "mse"}
    assert 0 < whole.divergence["all"].kl_mean < 0.01


def test_the_quantiser_hands_out_the_codes_in_any_blocks(whole, checkpoint) -> None:
    name = linear_name(1, "down")
    tensor = checkpoint.tensor(name)
    quantiser = Float8Quantiser(whole)

    def rows(first: int, stop: int) -> StoredRows:
        return StoredRows(name=name, dtype=checkpoint.dtype(name), first_row=first, values=tensor[first:stop])

    found, errors = quantiser.quantise_float8(rows(0, len(tensor)))
    part, _ = quantiser.quantise_float8(rows(3, 9))
    np.testing.assert_array_equal(found.codes, whole.layer(1).weights["down"].codes)
    np.testing.assert_array_equal(part.dequantise(), found.dequantise()[3:9])
    assert np.sqrt(errors.squared_error.sum() / errors.squared_weight.sum()) < 0.05


@pytest.mark.parametrize("killed_in", [0, 1])
def test_killed_in_any_layer_it_goes_on_there_to_the_same_codes(
    whole, checkpoint, text_samples, tmp_path, monkeypatch, killed_in
) -> None:
    class Killed(Exception):
        """In place of a kill."""

    real, ran = LayerRun.code, []

    def code(layer, before, after):
        if layer.index == killed_in and not ran.count("killed"):
            ran.append("killed")
            raise Killed
        ran.append(layer.index)
        return real(layer, before, after)

    monkeypatch.setattr(LayerRun, "code", code)
    with pytest.raises(Killed):
        calibrated(checkpoint, text_samples(), tmp_path)
    again = calibrated(checkpoint, text_samples(), tmp_path)
    assert ran == [*range(killed_in), "killed", *range(killed_in, whole.layers)]
    assert again.activation_scales() == whole.activation_scales()
    for index in range(whole.layers):
        for linear in LINEARS:
            np.testing.assert_array_equal(
                again.layer(index).weights[linear].codes, whole.layer(index).weights[linear].codes
            )


def test_inputs_that_are_no_numbers_are_told_with_layer_and_sample(
    checkpoint, text_samples, tmp_path, monkeypatch
) -> None:
    from phiedge.calibration.decoder_layer import LayerMath

    def gated(math, gate_up):
        return torch.full((len(gate_up), math.config.intermediate_size), float("inf"))

    monkeypatch.setattr(LayerMath, "gated", gated)
    with pytest.raises(ExportError, match="sample sample 0: the inputs of layer 0, down are not all numbers"):
        calibrated(checkpoint, text_samples(), tmp_path)
