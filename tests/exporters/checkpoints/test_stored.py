"""Weights of a bundle, read back: as they were quantised, and refused where the bundle is not what it says."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import BundleError, FormatError
from phiedge.exporters.checkpoints.stored import StoredWeights, row_blocks
from phiedge.exporters.checkpoints.text_model import decoder_weights
from stored_numbers import decoder_numbers

NAME = "model.layers.1.mlp.down_proj.weight"


def test_rows_are_those_that_were_quantised(gpu_bundle: Bundle) -> None:
    weights = decoder_weights(gpu_bundle)
    linear = weights.grouped(NAME)
    assert linear is not None
    assert (linear.rows, linear.k, linear.bits, linear.group_size) == (256, 512, 4, 128)
    found = weights.read_grouped(linear, slice(3, 9)).dequantise()
    np.testing.assert_array_equal(found, decoder_numbers(gpu_bundle.path)[NAME][3:9])


def test_every_dialect_tells_the_same(gpu_bundle: Bundle) -> None:
    found = []
    for dialect in gpu_bundle.manifest.dialects.values():
        weights = StoredWeights(gpu_bundle, dialect.decoder)
        linear = weights.grouped(NAME)
        assert linear is not None
        found.append(weights.read_grouped(linear, slice(0, 256)).dequantise())
    assert len(found) == 3
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_a_head_of_eight_bits_is_read_too(tiny_bundle: Bundle) -> None:
    weights = decoder_weights(tiny_bundle)
    linear = weights.grouped("lm_head.weight")
    assert linear is not None
    assert linear.bits == 8
    codes = weights.read_grouped(linear, slice(0, linear.rows)).codes
    assert codes.min() < -100
    assert codes.max() > 100


def test_a_file_that_is_cut_short_is_named(gpu_bundle: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copytree(gpu_bundle.path, tmp_path / "bundle"))
    weights = decoder_weights(replace(gpu_bundle, path=path))
    (path / "decoder.data").write_bytes(b"")
    linear = weights.grouped(NAME)
    assert linear is not None
    with pytest.raises(BundleError, match="is cut short"):
        weights.read_grouped(linear, slice(0, 2))


def test_a_scale_that_is_no_number_is_refused(gpu_bundle: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copytree(gpu_bundle.path, tmp_path / "bundle"))
    size = (path / "decoder.data").stat().st_size
    (path / "decoder.data").write_bytes(b"\xff" * size)
    weights = decoder_weights(replace(gpu_bundle, path=path))
    linear = weights.grouped(NAME)
    assert linear is not None
    with pytest.raises(FormatError, match="has a scale that is no positive number"):
        weights.read_grouped(linear, slice(0, 2))


def test_a_weight_that_is_not_there_is_named(gpu_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no weight nothing"):
        decoder_weights(gpu_bundle).plain("nothing")


def test_blocks_cover_all_rows() -> None:
    assert list(row_blocks(5, 32 << 20)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
