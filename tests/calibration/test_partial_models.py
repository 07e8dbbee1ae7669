from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fake_checkpoints import FakeDims, write_checkpoint
from phiedge.calibration.decoder_layer import LINEARS, linear_name, read_tensor
from phiedge.calibration.folding import Folding
from phiedge.calibration.int4_run import Calibration, calibrate
from phiedge.calibration.methods import Settings
from phiedge.calibration.partial_models import Choice, PartialModels, effective_weights
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint

LAYERS = 2
EVERY: Choice = frozenset((layer, linear) for layer in range(LAYERS) for linear in LINEARS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", FakeDims(num_hidden_layers=LAYERS))
    with open_checkpoint(path) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="module")
def samples(text_samples):
    return text_samples()


@pytest.fixture(scope="module")
def calibrated(checkpoint, samples, tmp_path_factory) -> Calibration:
    settings = Settings(methods=("awq",), group_size=32)
    return calibrate(checkpoint, samples, settings, tmp_path_factory.mktemp("work"), fingerprint={"model": "tiny"})


@pytest.fixture
def models(checkpoint, calibrated, tmp_path: Path) -> PartialModels:
    return PartialModels(source=checkpoint, artefacts=calibrated.layer, compute=torch.float32, directory=tmp_path)


def test_quantising_nothing_costs_nothing_and_all_costs_most(models, samples) -> None:
    held = [sample for sample in samples if sample.held_out]
    nothing, one, all_of_them = models.divergences(held, [frozenset(), frozenset([(1, "down")]), EVERY])
    assert nothing.kl_mean == 0
    assert nothing.top1_agreement == 1
    assert 0 < one.kl_mean < all_of_them.kl_mean
    assert all_of_them.rows == sum(sample.rows for sample in held)


def test_all_of_them_together_are_what_calibration_made(models, samples, calibrated) -> None:
    held = [sample for sample in samples if sample.held_out]
    (together,) = models.divergences(held, [EVERY])
    assert together.kl_mean == pytest.approx(calibrated.divergence["all"].kl_mean, rel=0.02)


def test_what_a_choice_costs_does_not_depend_on_the_others(models, samples) -> None:
    held = [sample for sample in samples if sample.held_out]
    choice: Choice = frozenset([(0, "o"), (1, "qkv")])
    (alone,) = models.divergences(held, [choice])
    beside = models.divergences(held, [EVERY, choice])[1]
    assert alone.kl_mean == pytest.approx(beside.kl_mean, rel=1e-3)


def test_what_was_folded_is_taken_out_of_the_weights(checkpoint, calibrated) -> None:
    artefact = calibrated.layer(0)
    assert any(not bool((factors == 1).all()) for factors in artefact.factors.values()), "nothing was folded"
    weights = effective_weights(artefact, Folding(config=checkpoint.config), torch.float32)
    for linear in LINEARS:
        original = read_tensor(checkpoint, linear_name(0, linear))
        assert float((weights[linear] - original).norm() / original.norm()) < 0.15
