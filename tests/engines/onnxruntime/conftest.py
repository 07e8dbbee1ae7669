import pytest

from phiedge.bundle import Bundle, ModelFacts


@pytest.fixture
def facts(oracle_bundle: Bundle) -> ModelFacts:
    return oracle_bundle.manifest.facts
