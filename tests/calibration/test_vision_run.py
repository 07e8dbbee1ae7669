"""The vision encoder stage by stage, on a checkpoint with small layers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fake_checkpoints import write_checkpoint
from phiedge.calibration import vision_run
from phiedge.calibration.decoder_layer import read_tensor
from phiedge.calibration.int4 import RoundToNearest
from phiedge.calibration.samples import VISUAL, Kind, Picture, Sample
from phiedge.calibration.vision_calibrated import VisionQuantiser, input_scales
from phiedge.calibration.vision_layer import VisionStage
from phiedge.calibration.vision_run import VisionCalibration, calibrate_vision
from phiedge.errors import ExportError, InputError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.exporters.tensors import TOWER_PREFIX, vision_tensor
from phiedge.exporters.values import StoredRows
from phiedge.exporters.vision import VisionEncoder
from phiedge.exporters.vision_linears import vision_sources

KEY = {"weights": "these"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    with open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")) as checkpoint:
        yield checkpoint


def pictured(checkpoint: Checkpoint, place: int, *, held_out: bool, pictures: int = 1) -> Sample:
    """A sample of nothing but pictures of random patches."""
    config, rng, rows = checkpoint.config, np.random.default_rng(place), 20 + place
    shown = [
        Picture(
            patches=rng.uniform(-1, 1, (rows, 3 * config.patch_size**2)).astype(np.float32),
            positions=0.1 * rng.standard_normal((rows, config.vision_hidden_size)).astype(np.float32),
            first_row=index * rows,
        )
        for index in range(pictures)
    ]
    return Sample(
        name=f"picture {place}",
        tokens=np.full(rows * pictures, VISUAL),
        kinds=np.full(rows * pictures, Kind.VISUAL, np.int8),
        held_out=held_out,
        digest=str(place),
        load=lambda: shown,
    )


@pytest.fixture(scope="module")
def samples(checkpoint) -> list[Sample]:
    return [pictured(checkpoint, place, held_out=place == 2, pictures=1 + place % 2) for place in range(5)]


@pytest.fixture(scope="module", params=["int8", "float8"])
def calibrated(request, checkpoint, samples, tmp_path_factory) -> VisionCalibration:
    return calibrate_vision(checkpoint, samples, request.param, tmp_path_factory.mktemp("run"), fingerprint=KEY)


def test_the_stages_are_those_of_the_exported_module(checkpoint, samples) -> None:
    config, picture = checkpoint.config, samples[0].load()[0]
    with torch.device("meta"):
        encoder = VisionEncoder(config)
    weights = {name: read_tensor(checkpoint, vision_tensor(name)) for name, _ in encoder.named_parameters()}
    encoder.load_state_dict(weights, assign=True)
    patches, positions = torch.from_numpy(picture.patches), torch.from_numpy(picture.positions)
    embedding = [read_tensor(checkpoint, f"{TOWER_PREFIX}embeddings.patch_embedding.{p}") for p in ("weight", "bias")]
    with torch.no_grad():
        x = functional.linear(patches, *embedding) + positions
        for place in range(config.vision_layers_used + 1):
            stage = VisionStage.read(checkpoint, place)
            x = stage.forward(
                x,
                lambda linear, rows, stage=stage: functional.linear(
                    rows, stage.weight(checkpoint, linear), stage.bias(linear)
                ),
            )
        torch.testing.assert_close(x, encoder(patches, positions), rtol=1e-4, atol=1e-5)


def test_every_linear_has_codes_and_a_scale_and_the_features_stay_near(calibrated, checkpoint) -> None:
    scales = input_scales(calibrated)
    assert sorted(scales) == sorted(vision_sources(checkpoint.config))
    assert (calibrated.pictures, calibrated.held_out) == (6, 1)
    errors = [calibrated.stage(place).report.relative_error for place in range(calibrated.stages)]
    assert len(errors) == checkpoint.config.vision_layers_used + 1
    assert 0 < errors[-1] < (2e-3 if calibrated.form == "int8" else 2e-2)
    block = f"{TOWER_PREFIX}encoder.layers.0.self_attn."
    assert len({scales[f"{block}{part}_proj.weight"] for part in "qkv"}) == 1


def test_the_quantiser_hands_out_rows_of_its_own_and_leaves_the_rest_to_another(calibrated, checkpoint) -> None:
    quantiser = VisionQuantiser(calibrated, RoundToNearest())
    assert quantiser.method.startswith("rtn, vision ")
    stage = VisionStage.read(checkpoint, 0)
    name = stage.linears["qkv"][1]
    weight = read_tensor(checkpoint, name).numpy()
    rows = StoredRows(name=name, dtype="float32", first_row=3, values=weight[3:9])
    if calibrated.form == "int8":
        found, errors = quantiser.quantise(rows, bits=8, group_size=weight.shape[1])
    else:
        found, errors = quantiser.quantise_float8(rows)
    whole = calibrated.stage(0).codes["qkv"].dequantise().numpy()
    assert np.array_equal(found.dequantise(), whole[len(weight) + 3 : len(weight) + 9])
    assert errors.largest == pytest.approx(np.abs(found.dequantise() - weight[3:9]).max())
    other = StoredRows(name="lm_head.weight", dtype="float32", first_row=0, values=weight[:2])
    assert np.array_equal(
        quantiser.quantise(other, bits=8, group_size=weight.shape[1])[0].codes,
        RoundToNearest().quantise(other, bits=8, group_size=weight.shape[1])[0].codes,
    )


def test_a_run_that_was_killed_goes_on_with_the_first_stage_without_an_artefact(
    checkpoint, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = calibrate_vision(checkpoint, samples, "int8", tmp_path / "whole", fingerprint=KEY)
    read, places = VisionStage.read, []

    def killing(source, place: int) -> VisionStage:
        places.append(place)
        if places == [0, 1]:
            raise KeyboardInterrupt
        return read(source, place)

    monkeypatch.setattr(vision_run.VisionStage, "read", staticmethod(killing))
    with pytest.raises(KeyboardInterrupt):
        calibrate_vision(checkpoint, samples, "int8", tmp_path / "killed", fingerprint=KEY)
    again = calibrate_vision(checkpoint, samples, "int8", tmp_path / "killed", fingerprint=KEY)
    assert places[2:] == list(range(1, whole.stages)), "the first stage was not run again"
    for place in range(whole.stages):
        assert again.stage(place).report == whole.stage(place).report
    left = {path.name for path in (tmp_path / "killed").iterdir() if path.suffix == ".safetensors"}
    assert left == {f"vision-{place:03d}.safetensors" for place in range(whole.stages)}


def test_artefacts_of_other_weights_are_thrown_away(checkpoint, samples, tmp_path: Path) -> None:
    calibrate_vision(checkpoint, samples, "int8", tmp_path, fingerprint=KEY)
    (tmp_path / "vision-000.safetensors").write_bytes(b"")
    found = calibrate_vision(checkpoint, samples, "int8", tmp_path, fingerprint={"weights": "others"})
    assert found.stage(0).report.stage == "vision layer 0"


def test_pictures_to_calibrate_on_and_to_judge_by_are_both_needed(checkpoint, samples, text_samples, tmp_path) -> None:
    for given, told in (
        (text_samples(), "0 pictures to calibrate vision on and 0 to judge it by"),
        (samples[:2], "3 pictures to calibrate vision on and 0 to judge it by"),
        (samples[2:3], "0 pictures to calibrate vision on and 1 to judge it by"),
    ):
        with pytest.raises(InputError, match=told):
            calibrate_vision(checkpoint, given, "int8", tmp_path / "none", fingerprint=KEY)
    assert not (tmp_path / "none").exists()


def test_numbers_that_are_none_are_told_with_stage_and_sample(checkpoint, samples, tmp_path, monkeypatch) -> None:
    def attended(stage: VisionStage, qkv: torch.Tensor) -> torch.Tensor:
        return torch.full((len(qkv), stage.config.vision_hidden_size), torch.nan)

    monkeypatch.setattr(VisionStage, "attended", attended)
    with pytest.raises(ExportError, match="sample picture 0: the inputs of vision layer 0, out are not all numbers"):
        calibrate_vision(checkpoint, samples, "int8", tmp_path, fingerprint=KEY)
