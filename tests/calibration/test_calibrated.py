from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fake_checkpoints import write_checkpoint
from phiedge.calibration.calibrated import CalibratedQuantiser, FoldedSource
from phiedge.calibration.decoder_layer import LINEARS, linear_name, norm_names
from phiedge.calibration.int4_run import Calibration, calibrate
from phiedge.calibration.methods import Settings
from phiedge.errors import ExportError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.exporters.values import StoredRows


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    with open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="module")
def calibration(checkpoint, text_samples, tmp_path_factory) -> Calibration:
    settings = Settings(methods=("awq",), group_size=32)
    return calibrate(checkpoint, text_samples(), settings, tmp_path_factory.mktemp("work"), fingerprint={})


def stored(checkpoint: Checkpoint, name: str, rows: slice = slice(None)) -> StoredRows:
    values = checkpoint.tensor(name, rows)
    return StoredRows(name=name, dtype=checkpoint.dtype(name), first_row=rows.start or 0, values=values)


@pytest.mark.parametrize("linear", LINEARS)
def test_rows_come_out_as_they_were_calibrated_and_near_the_folded_weights(checkpoint, calibration, linear) -> None:
    quantiser, name = CalibratedQuantiser(calibration, checkpoint.config), linear_name(1, linear)
    whole, _ = quantiser.quantise(stored(checkpoint, name), bits=4, group_size=32)
    part, errors = quantiser.quantise(stored(checkpoint, name, slice(5, 9)), bits=4, group_size=32)
    np.testing.assert_array_equal(part.packed, whole.packed[5:9])
    np.testing.assert_array_equal(part.scales, whole.scales[5:9])
    assert 0 < errors.squared_error.sum() < 0.03 * errors.squared_weight.sum()


def test_what_is_not_calibrated_is_rounded(checkpoint, calibration) -> None:
    quantiser = CalibratedQuantiser(calibration, checkpoint.config)
    head, errors = quantiser.quantise(stored(checkpoint, "lm_head.weight"), bits=8, group_size=32)
    assert head.bits == 8
    assert errors.squared_error.sum() < 1e-3 * errors.squared_weight.sum()


def test_another_group_size_is_refused(checkpoint, calibration) -> None:
    quantiser = CalibratedQuantiser(calibration, checkpoint.config)
    with pytest.raises(ExportError, match="4 bits in groups of 32, the export wants 4 bits in groups of 64"):
        quantiser.quantise(stored(checkpoint, linear_name(0, "qkv")), bits=4, group_size=64)


def test_the_source_has_folded_norms_and_is_otherwise_the_checkpoint(checkpoint, calibration) -> None:
    folded, (attention, _) = FoldedSource(checkpoint, calibration), norm_names(0)
    assert (folded.dtype(attention), folded.dtype("model.norm.weight")) == ("float32", "bfloat16")
    found = {}
    for block in folded.blocks({attention, "model.norm.weight"}, block_bytes=1 << 20):
        found[block.name] = np.array(block.load())
        block.release()
    factors = calibration.layer(0).factors["qkv"].numpy()
    np.testing.assert_allclose(found[attention] * factors, checkpoint.float32(attention), rtol=1e-6)
    assert found["model.norm.weight"].dtype == np.uint16
    assert folded.names() == checkpoint.names()
    assert folded.fingerprint() != checkpoint.fingerprint()
    assert torch.equal(calibration.layer(0).norms[0], torch.from_numpy(found[attention]))
