import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phiedge.calibration.grouped import COVERING, Grouped, choose_scales, round_to, round_to_nearest
from phiedge.calibration.int4 import quantise_rtn
from phiedge.errors import ExportError


def normal(rows: int, k: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((rows, k)).astype(np.float32))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_without_clipping_it_is_rounding_to_nearest(bits, group_size) -> None:
    weight = normal(16, 256)
    ours = round_to_nearest(weight, group_size=group_size, bits=bits, shrinks=COVERING).weight()
    plain = quantise_rtn(weight.numpy(), group_size, bits=bits)
    np.testing.assert_array_equal(ours.scales, plain.scales)
    np.testing.assert_array_equal(ours.packed, plain.packed)


@settings(max_examples=30, deadline=None)
@given(values=hnp.arrays(np.float32, (3, 64), elements=st.floats(-100, 100, width=32)))
def test_clipping_never_loses_more_than_covering(values) -> None:
    weight = torch.from_numpy(values)
    errors = [
        float((round_to_nearest(weight, group_size=32, bits=4, **shrinks).dequantise() - weight).square().sum())
        for shrinks in ({}, {"shrinks": COVERING})
    ]
    assert errors[0] <= errors[1] * (1 + 1e-5)


def test_scales_are_numbers_of_float16() -> None:
    scales = choose_scales(normal(8, 128), None, group_size=32, bits=4)
    assert torch.equal(scales, scales.half().float())
    assert bool((scales > 0).all())


def test_an_important_column_is_kept_at_the_cost_of_the_others() -> None:
    weight = normal(64, 128)
    weight[:, 5] = 6.0
    unimportant = torch.ones(128)
    unimportant[5] = 1e-6
    clipped = choose_scales(weight, unimportant, group_size=128, bits=4)
    kept = choose_scales(weight, 1 / unimportant, group_size=128, bits=4)
    assert float(clipped.mean()) < 0.9 * float(kept.mean())


def test_a_gram_matrix_of_each_group_loses_less_than_its_diagonal_where_inputs_are_alike() -> None:
    weight, common = normal(64, 128), normal(400, 1)
    x = 0.3 * torch.randn(400, 128, generator=torch.Generator().manual_seed(1)) + common
    gram = x.T @ x
    blocks = torch.stack([gram[i : i + 32, i : i + 32] for i in range(0, 128, 32)])
    losses = []
    for importance in (gram.diagonal(), blocks):
        scales = choose_scales(weight, importance, group_size=32, bits=4)
        difference = round_to(weight, scales, 4).dequantise() - weight
        by_group = [difference[:, i : i + 32] @ blocks[i // 32] * difference[:, i : i + 32] for i in range(0, 128, 32)]
        losses.append(float(sum(part.sum() for part in by_group)))
    assert losses[1] < 0.8 * losses[0]


def test_a_group_of_zeros_stays_zero() -> None:
    assert not bool(round_to_nearest(torch.zeros(2, 64), group_size=32, bits=4).dequantise().any())


def test_a_ragged_group_is_refused() -> None:
    with pytest.raises(ExportError, match="K = 96 is not a multiple of the group size 128"):
        choose_scales(normal(2, 96), None, group_size=128, bits=4)


def test_weights_beyond_float16_are_refused() -> None:
    with pytest.raises(ExportError, match="exceeds float16"):
        round_to_nearest(normal(2, 64) * 1e9, group_size=32, bits=4)


def test_factors_of_rows_move_into_the_scales_alone() -> None:
    grouped = round_to(normal(4, 64), torch.full((4, 2), 0.25), 4)
    moved = grouped.with_rows_times(torch.tensor([1.0, 2.0, 0.5, 4.0]))
    assert torch.equal(moved.codes, grouped.codes)
    assert torch.equal(moved.scales[:, 0], torch.tensor([0.25, 0.5, 0.125, 1.0]))
    assert isinstance(moved, Grouped)
