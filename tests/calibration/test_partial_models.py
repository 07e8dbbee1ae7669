from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fake_checkpoints import FakeDims, write_checkpoint
from phiedge.calibration.decoder_layer import LINEARS, TensorReader, linear_name, read_tensor
from phiedge.calibration.folding import Folding
from phiedge.calibration.int4_run import Calibration, calibrate
from phiedge.calibration.methods import Settings
from phiedge.calibration.partial_models import Choice, PartialModels, effective_weights
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.exporters.safetensors_file import Array, Dtype

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
    return partial_models(checkpoint, calibrated, tmp_path)


def partial_models(source: TensorReader, calibrated: Calibration, directory: Path) -> PartialModels:
    directory.mkdir(exist_ok=True)
    return PartialModels(
        source=source, artefacts=calibrated.layer, key=calibrated.key, compute=torch.float32, directory=directory
    )


class Killed(Exception):
    """In place of a signal that cannot be caught."""


class Mortal:
    """A checkpoint that dies at its read number `lives`, and knows which layers were read."""

    def __init__(self, source: Checkpoint, lives: int) -> None:
        self.config = source.config
        self.reads: list[str] = []
        self._source = source
        self._lives = lives

    def dtype(self, name: str) -> Dtype:
        return self._source.dtype(name)

    def tensor(self, name: str, rows: slice | None = None) -> Array:
        if len(self.reads) == self._lives:
            raise Killed
        self.reads.append(name)
        return self._source.tensor(name, rows)

    def layers(self) -> list[int]:
        return [layer for layer in range(LAYERS) if linear_name(layer, "down") in self.reads]


def test_a_measurement_that_is_killed_anywhere_goes_on_behind_the_last_layer_that_was_whole(
    checkpoint, calibrated, samples, tmp_path
) -> None:
    held = [sample for sample in samples if sample.held_out]
    choices: list[Choice] = [frozenset([(0, "o")]), frozenset([(1, "down")]), EVERY, frozenset()]
    whole = Mortal(checkpoint, 10**6)
    wanted = partial_models(whole, calibrated, tmp_path / "whole").divergences(held, choices)
    assert whole.layers() == [0, 1]
    # One kill for each tensor that is read: a row of embeddings is one of very many.
    kills = {name: lives for lives, name in reversed(list(enumerate(whole.reads)))}
    for lives in kills.values():
        directory = tmp_path / str(lives)
        first, second = Mortal(checkpoint, lives), Mortal(checkpoint, 10**6)
        with pytest.raises(Killed):
            partial_models(first, calibrated, directory).divergences(held, choices)
        assert partial_models(second, calibrated, directory).divergences(held, choices) == wanted
        done = [int(name.stem[-3:]) for name in directory.glob("partial-*.rows")]
        assert done == [LAYERS], "what came before is removed"
        assert not set(first.layers()[:-1]) & set(second.layers()), "a whole layer ran twice"


def test_rows_of_another_measurement_are_not_taken_up(checkpoint, calibrated, samples, tmp_path) -> None:
    held = [sample for sample in samples if sample.held_out]
    source = Mortal(checkpoint, 10**6)
    models = partial_models(source, calibrated, tmp_path)
    (one,) = models.divergences(held, [frozenset([(1, "down")])])
    source.reads.clear()
    (other,) = models.divergences(held, [frozenset([(1, "o")])])
    assert source.layers() == [0, 1]
    assert one != other
    assert len(list(tmp_path.glob("partial-*.rows"))) == 1


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
