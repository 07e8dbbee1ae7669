from collections.abc import Callable

import pytest

from phiedge.bundle import Bundle, ModelFacts


@pytest.fixture(scope="session")
def int4_bundle(export_oracle: Callable[[str], Bundle]) -> Bundle:
    """The oracle's checkpoint as an int4 bundle."""
    return export_oracle("int4")


@pytest.fixture
def facts(int4_bundle: Bundle) -> ModelFacts:
    return int4_bundle.manifest.facts
