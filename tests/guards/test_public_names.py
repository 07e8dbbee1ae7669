"""The public names of phiedge, so that none appears or disappears by accident."""

import inspect

import pytest

import phiedge
from phiedge import errors

PUBLIC = {"Budget", "Bundle", "Event", "LatestFrame", "RemoteSession", "Result", "Session", "__version__"}
FORMS = {"BoxForm", "ChoiceForm", "JsonForm", "PatternForm", "PointForm"}
ERRORS = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, phiedge.PhiEdgeError)}


def test_the_public_names_are_these_and_all_errors() -> None:
    assert set(phiedge.__all__) == PUBLIC | FORMS | ERRORS
    assert phiedge.__all__ == sorted(phiedge.__all__)


@pytest.mark.parametrize("name", phiedge.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(phiedge, name) is not None
    assert name in dir(phiedge)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sesion'"):
        phiedge.sesion  # noqa: B018
