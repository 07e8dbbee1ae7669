import pytest
import torch

from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.errors import ExportError


def roles(weights: list[float], searched: tuple[int, ...] = (), held: tuple[int, ...] = ()) -> RowRoles:
    return RowRoles(
        weights=torch.tensor(weights),
        searched=torch.tensor(searched, dtype=torch.int64),
        held=torch.tensor(held, dtype=torch.int64),
    )


def statistics(*, with_gram: bool = True) -> InputStatistics:
    return InputStatistics(told="layer 7, down", columns=6, group_size=3, with_gram=with_gram)


@pytest.mark.parametrize(("dtype", "with_gram"), [("float32", True), ("float32", False), ("bfloat16", True)])
def test_sums_are_weighted_by_row(dtype: str, with_gram: bool) -> None:
    rows = torch.randn(4, 6).to(getattr(torch, dtype))
    x = rows.float()
    found = statistics(with_gram=with_gram)
    found.add(rows, roles([1, 0.5, 0, 2]), sample="a")
    w = torch.tensor([1, 0.5, 0, 2])[:, None]
    assert found.weight == 3.5
    torch.testing.assert_close(found.absolute, (w * x.abs()).sum(0))
    for group, columns in enumerate((slice(0, 3), slice(3, 6))):
        torch.testing.assert_close(found.importance[group], x[:, columns].T @ (w * x[:, columns]) / 3.5)
    assert (found.gram is not None) == with_gram
    if found.gram is not None:
        rough = {"rtol": 2e-2, "atol": 2e-2} if dtype == "bfloat16" else {}
        torch.testing.assert_close(found.gram.tril(), (x.T @ (w * x)).tril(), **rough)


def test_rows_of_held_out_samples_are_kept_and_in_no_sum() -> None:
    found = statistics()
    x = torch.randn(3, 6)
    found.add(x, roles([0, 0, 0], held=(0, 2)), sample="a")
    assert found.weight == 0
    assert torch.equal(found.held, x[[0, 2]])
    assert found.searched.shape == (0, 6)


def test_a_number_that_is_none_is_told_with_layer_and_sample() -> None:
    x = torch.randn(3, 6)
    x[1, 2] = float("inf")
    with pytest.raises(ExportError, match="sample page 4: the inputs of layer 7, down are not all numbers"):
        statistics().add(x, roles([1, 1, 1]), sample="page 4")
