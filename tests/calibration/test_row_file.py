import pytest
import torch

from phiedge.calibration.row_file import RowFile


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_come_back_as_they_were(tmp_path, dtype) -> None:
    rows = RowFile(tmp_path / "rows", [3, 1, 4], 5, dtype)
    parts = [torch.randn(length, 5).to(dtype) for length in (3, 1, 4)]
    for index, part in enumerate(parts):
        assert not rows.is_whole
        rows.write(index, part)
    assert rows.is_whole
    assert all(torch.equal(rows.read(index), part) for index, part in enumerate(parts))


def test_it_takes_a_name_when_it_is_whole(tmp_path) -> None:
    rows = RowFile(tmp_path / "part", [2], 3)
    rows.write(0, torch.ones(2, 3))
    kept = rows.renamed(tmp_path / "rows")
    assert kept.is_whole
    assert not (tmp_path / "part").exists()
    assert torch.equal(kept.read(0), torch.ones(2, 3))
