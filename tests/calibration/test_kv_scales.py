import json

import numpy as np
import pytest
import torch

from phiedge.calibration.eight_bits import rounded
from phiedge.calibration.kv_scales import CacheStatistics, LayerCacheScales, graph_scales
from phiedge.calibration.statistics import RowRoles
from phiedge.errors import ExportError
from phiedge.exporters.attention_op import rotate_half_split

KV, ROWS, D = 2, 96, 8


def roles(*, held_out: bool = False) -> RowRoles:
    everything = torch.arange(ROWS)
    nothing = torch.arange(0)
    return RowRoles(
        weights=torch.zeros(ROWS) if held_out else torch.ones(ROWS),
        searched=nothing if held_out else everything,
        held=everything if held_out else nothing,
    )


def random_sides(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(KV, ROWS, D, generator=made), torch.randn(KV, ROWS, D, generator=made)


def scales_of(key: torch.Tensor, value: torch.Tensor) -> LayerCacheScales:
    seen = CacheStatistics(layer=0)
    seen.add(key, value, roles(), sample="one")
    return seen.scales()


def test_channels_that_turn_together_have_one_scale_wherever_the_larger_number_stands() -> None:
    key, value = random_sides()
    key[0, :, 1] *= 50  # and little in channel 5, which the pair has turned into after some thousand positions
    found = scales_of(key, value).key.channels.reshape(KV, D)
    assert np.array_equal(found[:, : D // 2], found[:, D // 2 :])
    largest = float(torch.hypot(key[0, :, 1], key[0, :, 5]).max())
    assert found[0, 5] * 127 >= 0.5 * largest


def test_values_have_a_scale_for_each_channel_alone() -> None:
    key, value = random_sides()
    value[1, :, 3] *= 100
    found = scales_of(key, value).value.channels.reshape(KV, D)
    others = np.delete(found.flatten(), D + 3)
    assert found[1, 3] > 20 * others.max()


def test_scales_of_channels_lose_less_than_one_scale_where_channels_differ() -> None:
    key, value = random_sides()
    key[0, :, 2] *= 40
    value[0, :, 2] *= 40
    for _, side in scales_of(key, value).sides():
        one = side.tensor["int8"]
        assert 0 < side.channel_error < 0.5 * min(one.errors.values())
        assert one.errors[one.rule] == min(one.errors.values())


def test_a_channel_in_which_nothing_was_seen_still_has_room() -> None:
    key, value = random_sides()
    value[0, :, 0] = 0
    found = scales_of(key, value).value
    assert found.channels[0] * 127 >= found.largest / 1280


def test_a_sample_that_judges_is_in_no_scale() -> None:
    key, value = random_sides()
    seen = CacheStatistics(layer=0)
    seen.add(key, value, roles(), sample="one")
    seen.add(100 * key, 100 * value, roles(held_out=True), sample="two")
    assert seen.scales().to_json() == scales_of(key, value).to_json()


def test_folded_rows_are_in_the_scales_of_values_and_not_in_those_of_keys() -> None:
    key, value = random_sides()
    rows = torch.linspace(0.5, 2, KV * D)
    seen = CacheStatistics(layer=0)
    seen.add(key, value, roles(), sample="one")
    seen.fold(rows)
    folded = scales_of(key, value * rows.view(KV, 1, D))
    assert seen.scales().to_json() == folded.to_json()


@pytest.mark.parametrize(("side", "place"), [("key", 0), ("value", 1)])
@pytest.mark.parametrize("held_out", [False, True])
def test_what_is_no_number_is_told_with_layer_and_sample(side: str, place: int, held_out: bool) -> None:
    sides = random_sides()
    sides[place][1, 7, 3] = float("nan")
    with pytest.raises(ExportError, match=rf"sample kiosk 4: the {side}s of layer 11 are not all numbers") as caught:
        CacheStatistics(layer=11).add(*sides, roles(held_out=held_out), sample="kiosk 4")
    assert "leave the sample out" in str(caught.value.remedy)


def test_scales_come_back_from_json_as_they_were() -> None:
    found = scales_of(*random_sides())
    again = LayerCacheScales.from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    assert graph_scales((again,)).digest() == graph_scales((found,)).digest()


def test_scales_found_at_the_beginning_of_a_context_hold_at_its_end() -> None:
    angles = torch.tensor([0.9, 0.3, 1e-3, 1e-4])  # a position; the slow ones hardly turn while anything is seen

    def keys(first: int) -> torch.Tensor:
        turned = torch.arange(first, first + ROWS)[:, None] * angles
        plain = random_sides()[0] * torch.tensor([1, 1, 20, 20, 1, 1, 1, 1])
        return rotate_half_split(plain, turned.cos(), turned.sin())

    scales = torch.from_numpy(scales_of(keys(0), random_sides()[1]).key.channels).view(KV, 1, D)
    for first in (0, 1_500, 15_000):  # the third pair has then turned by 90 degrees, the fourth by as much
        key = keys(first)
        error = float((rounded(key, scales, "int8") - key).square().sum() / key.square().sum())
        assert error < 1e-4, first
