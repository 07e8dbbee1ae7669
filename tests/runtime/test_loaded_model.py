import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.engines.interface import RunStoppedError
from phiedge.errors import BundleError
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import RowPlan, plan_rows
from phiedge.runtime.stopwatch import Stopwatch

CASES = ["text", "img1", "img1_think", "img1_nothink", "img2", "img2_swapped", "img1_trunc"]


@pytest.fixture(scope="module")
def model(oracle_bundle: Bundle) -> LoadedModel:
    return LoadedModel(oracle_bundle, max_context=None, threads=None, chunk_tokens=256)


def load_rows(model: LoadedModel, case) -> RowPlan:
    pictures = model.read_pictures(case.images, max_visual_tokens=None)
    prompt = model.prompts.raw(case.prompt, images=len(pictures))
    grids = [picture.grid for picture in pictures]
    plan = plan_rows(prompt, grids, context=model.context, room=1, cut_at=case.facts["truncated_to"])
    model.write_rows(plan, pictures, Stopwatch())
    return plan


@pytest.mark.parametrize("name", CASES)
def test_merged_rows_are_the_publishers(model: LoadedModel, oracle, name: str) -> None:
    case = oracle.case(name)
    plan = load_rows(model, case)
    assert plan.length == case.facts["merged_len"]
    np.testing.assert_allclose(model._rows[: plan.length], case["inputs_embeds"][0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_every_steps_logits_and_the_caches_are_the_publishers(model: LoadedModel, oracle, name: str) -> None:
    case = oracle.case(name)
    plan = load_rows(model, case)
    logits = [model.prefill(plan.length).copy()]
    views = model._decoder._cache.layers()
    for layer in (0, 2):
        for view, key in zip(views[layer], (f"k_cache_{layer}", f"v_cache_{layer}"), strict=True):
            np.testing.assert_allclose(view[:, :, : plan.length], case[key], rtol=0, atol=1e-4)
    logits += [model.step(token).copy() for token in case.greedy[:-1]]
    np.testing.assert_allclose(logits, case["step_logits"], rtol=0, atol=1e-3)


def test_a_nudged_visual_row_changes_nothing_before_it(model: LoadedModel, oracle) -> None:
    case = oracle.case("img1")
    plan = load_rows(model, case)
    nudged = oracle.meta["causality"]["perturbed"]
    assert plan.rows[1].start < nudged < plan.rows[1].start + plan.rows[1].count
    before = model.prefill(plan.length).copy()
    cache = model._decoder._cache._storage[..., : plan.length, :].copy()
    model._rows[nudged] += 1.0
    after = model.prefill(plan.length)
    changed = (model._decoder._cache._storage[..., : plan.length, :] != cache).any(axis=(1, 2, 3, 5))
    assert not changed[:, :nudged].any()
    assert changed[1:, nudged:].all()
    assert np.abs(after - before).max() > 1e-3


def test_the_cache_is_written_where_it_was_allocated(model: LoadedModel, oracle) -> None:
    plan = load_rows(model, oracle.case("text"))
    model._decoder._cache._storage.fill(np.nan)
    model.prefill(plan.length)
    for key, value in model._decoder._cache.layers():
        for view in (key, value):
            assert np.isfinite(view[:, :, : plan.length]).all()
            assert np.isnan(view[:, :, plan.length :]).all()
    bound = [value.data_ptr() for value in model._decoder._chunk_binding.get_outputs()[1:]]
    assert bound == [view.ctypes.data for pair in model._decoder._cache.layers() for view in pair]


def test_the_length_is_committed_only_after_a_run(model: LoadedModel, oracle) -> None:
    plan = load_rows(model, oracle.case("text"))
    model.prefill(plan.length)
    model.stop()
    with pytest.raises(RunStoppedError):
        model.step(1)
    model.rearm()
    assert model._cache.length == plan.length


def test_a_step_leaves_nothing_behind(model: LoadedModel, oracle) -> None:
    plan = load_rows(model, oracle.case("text"))
    model.prefill(plan.length)
    for token in range(20):
        model.step(token)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for token in range(200):
            model.step(token)
        end, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end - start < 4096
    assert peak - start < 16384


def test_a_bundle_without_the_dialect_says_what_it_has(oracle_bundle: Bundle) -> None:
    dialects = {"tensorrt": oracle_bundle.manifest.dialects["ort"]}
    other = replace(oracle_bundle, manifest=replace(oracle_bundle.manifest, dialects=dialects))
    with pytest.raises(BundleError, match="has graphs for tensorrt, not for ort"):
        LoadedModel(other, max_context=None, threads=None, chunk_tokens=256)
