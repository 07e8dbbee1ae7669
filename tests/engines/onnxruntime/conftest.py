from typing import Any

import pytest

from int8_caches import with_int8_cache
from phiedge.bundle import Bundle, ModelFacts


@pytest.fixture
def facts(oracle_bundle: Bundle) -> ModelFacts:
    return oracle_bundle.manifest.facts


@pytest.fixture(scope="session")
def int8_bundle(oracle_bundle: Bundle, oracle_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The oracle's checkpoint at fp32 with a cache in int8; read it, do not write into it."""
    return with_int8_cache(oracle_bundle, oracle_checkpoint, tmp_path_factory.mktemp("int8") / "bundle")
