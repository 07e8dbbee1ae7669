import pytest

from phiedge.errors import ExportError
from phiedge.exporters.draft import check_consumed


def test_every_used_tensor_is_consumed_exactly_once() -> None:
    check_consumed(["a", "b"], ["b", "a"])


@pytest.mark.parametrize(
    ("consumed", "message"),
    [
        (["a"], "the export reads b 0 times instead of once"),
        (["a", "b", "a"], "the export reads a 2 times instead of once"),
        (["a", "b", "c"], "the export reads c, which the architecture does not use"),
    ],
)
def test_anything_else_is_an_error_that_names_the_tensor(consumed, message) -> None:
    with pytest.raises(ExportError, match=message):
        check_consumed(consumed, ["a", "b"])
