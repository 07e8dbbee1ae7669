"""Several known tokens at once give what they give one after the other."""

import numpy as np

from phiedge.bundle import Bundle
from phiedge.runtime.loaded_model import LoadedModel


def test_known_tokens_at_once_are_the_same_as_one_by_one(oracle_bundle: Bundle) -> None:
    model = LoadedModel(oracle_bundle, max_context=None, threads=1, chunk_tokens=64)
    model._rows[:8] = np.random.default_rng(0).normal(0, 0.1, (8, model._rows.shape[1]))
    tokens = [40, 41, 42, 43, 44]
    model.prefill(8)
    one_by_one = [model.step(token).copy() for token in tokens][-1]
    model.prefill(8)
    at_once = model.run_known(tokens)
    assert model.length == 13
    np.testing.assert_allclose(at_once, one_by_one, rtol=0, atol=1e-4)
