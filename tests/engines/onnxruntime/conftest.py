from typing import Any

import numpy as np
import pytest

from int8_caches import random_rows, with_int8_cache
from phiedge.bundle import Bundle, ModelFacts


@pytest.fixture
def facts(oracle_bundle: Bundle) -> ModelFacts:
    return oracle_bundle.manifest.facts


@pytest.fixture(scope="session")
def int8_bundle(
    oracle_bundle: Bundle, oracle_checkpoint: Any, oracle_arrays: Any, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The oracle's checkpoint at fp32 with a cache in int8; read it, do not write into it."""
    sequences = [np.ascontiguousarray(oracle_arrays[f"{case}/inputs_embeds"][0]) for case in ("text", "img1", "img2")]
    sequences.append(random_rows(oracle_bundle.manifest.facts.hidden_size))
    return with_int8_cache(oracle_bundle, oracle_checkpoint, sequences, tmp_path_factory.mktemp("int8") / "bundle")
