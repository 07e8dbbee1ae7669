import inspect

import pytest

from phiedge import errors
from phiedge.errors import BundleError, MissingExtraError, PhiEdgeError, TensorError, UsageError, nearest


def all_errors() -> list[type[PhiEdgeError]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PhiEdgeError)]


def test_the_text_of_an_error_ends_with_its_remedy() -> None:
    error = BundleError("needs 9 GB, 6 GB are free", remedy="free some space")
    assert str(error) == "needs 9 GB, 6 GB are free\nremedy: free some space"
    assert (error.message, error.remedy) == ("needs 9 GB, 6 GB are free", "free some space")


def test_an_error_without_a_remedy_is_its_message() -> None:
    assert str(BundleError("no")) == "no"


@pytest.mark.parametrize("kind", all_errors())
def test_only_usage_errors_exit_with_two(kind: type[PhiEdgeError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_is_drawn_in_the_tree_of_the_docstring(kind: type[PhiEdgeError]) -> None:
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__.split()


def test_a_missing_extra_names_the_pip_line() -> None:
    error = MissingExtraError(what="phiedge export", extra="export", missing="torch")
    assert error.message == "phiedge export needs the 'export' extra (torch is not installed)"
    assert error.remedy == "pip install 'phiedge[export]'"


def test_a_tensor_error_knows_its_tensor() -> None:
    assert TensorError("lm_head.weight is missing", tensor="lm_head.weight").tensor == "lm_head.weight"


def test_nearest_names_ignore_case_and_come_best_first() -> None:
    assert nearest("Orin", ["orin", "orin-nx-16", "cpu"])[0] == "orin"
    assert nearest("qqq", ["orin", "cpu"]) == []
