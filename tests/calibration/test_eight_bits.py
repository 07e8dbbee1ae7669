import pytest
import torch

from phiedge.calibration.eight_bits import LARGEST, rounded, static_scale


def test_numbers_of_the_format_stay_as_they_are() -> None:
    x = torch.tensor([0.0, 1.0, -1.5, 448.0, 2.0**-9])
    assert torch.equal(rounded(x, 1.0, "float8"), x)
    assert torch.equal(rounded(torch.tensor([-127.0, 3.0]), 1.0, "int8"), torch.tensor([-127.0, 3.0]))


def test_what_is_too_large_is_clipped() -> None:
    assert rounded(torch.tensor([1e6, -1e6]), 1.0, "float8").tolist() == [448.0, -448.0]
    assert rounded(torch.tensor([1e6, -1e6]), 0.5, "int8").tolist() == [63.5, -63.5]


@pytest.mark.parametrize(("form", "most"), [("float8", 0.07), ("int8", 0.005)])
def test_rows_lose_little(form, most) -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 64)[:, None]
    scales = weight.abs().amax(dim=1, keepdim=True) / LARGEST[form]
    error = (rounded(weight, scales, form) - weight).abs()
    assert bool((error <= most * weight.abs().amax(1, keepdim=True)).all())


def test_one_huge_number_is_clipped_in_int8_and_kept_in_float8() -> None:
    x = torch.randn(16000, 64, generator=torch.Generator().manual_seed(1))
    x[0, 0] = 15.0
    whole, floating = static_scale(x, 15.0, "int8"), static_scale(x, 15.0, "float8")
    assert whole.rule != "max"
    assert whole.scale < 0.6 * 15 / 127
    assert whole.errors[whole.rule] < 0.5 * whole.errors["max"]
    assert floating.errors[floating.rule] > 0.5 * floating.errors["max"], "its steps grow with the numbers"


def test_zeros_have_a_scale() -> None:
    assert static_scale(torch.zeros(10, 4), 0.0, "float8").scale > 0
