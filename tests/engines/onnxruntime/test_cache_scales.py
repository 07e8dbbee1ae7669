"""Scales of an int8 cache that do not hold together are found before a graph is opened."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from int8_caches import scales_in_graph
from phiedge.bundle import Bundle, FileEntry
from phiedge.bundle.graph_file import read_graph
from phiedge.engines.onnxruntime.cache_scales import ENDS, check_cache_scales
from phiedge.errors import BundleError


@pytest.fixture
def bundle(int8_bundle: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(int8_bundle.path, tmp_path / "bundle")
    return Bundle(path=tmp_path / "bundle", manifest=int8_bundle.manifest)


def check(bundle: Bundle) -> None:
    check_cache_scales(bundle, bundle.manifest.dialects["ort"])


def with_report(bundle: Bundle, report: object) -> Bundle:
    (bundle.path / "quantization.json").write_text(json.dumps(report))
    files = {**bundle.manifest.files, "quantization.json": FileEntry(sha256="0" * 64, bytes=1)}
    return replace(bundle, manifest=replace(bundle.manifest, quantization="quantization.json", files=files))


def spoil(bundle: Bundle, value: float) -> None:
    """Write a number into the scales of a layer's values."""
    graph = bundle.file("decoder.ort.onnx")
    weight = next(weight for weight in read_graph(graph).weights if weight.name.endswith(ENDS[1]))
    with (bundle.path / str(weight.file)).open("r+b") as file:
        file.seek(weight.offset + 8)
        file.write(np.float32(value).tobytes())


def test_scales_that_hold_together_pass_with_and_without_a_report(bundle: Bundle) -> None:
    check(bundle)
    check(with_report(bundle, {"kv_cache": {"graph_sha256": scales_in_graph(bundle).digest()}}))


def test_a_float_cache_has_no_scales_to_check(oracle_bundle: Bundle) -> None:
    check(oracle_bundle)


def test_a_report_of_other_scales_is_refused(bundle: Bundle) -> None:
    other = with_report(bundle, {"kv_cache": {"graph_sha256": "f" * 64}})
    with pytest.raises(BundleError, match=r"decoder\.ort\.onnx and quantization\.json disagree .* ffffffffffff in"):
        check(other)


@pytest.mark.parametrize("report", [{}, {"kv_cache": None}, [], "text"])
def test_a_report_that_does_not_say_is_refused(bundle: Bundle, report: object) -> None:
    with pytest.raises(BundleError, match="does not say which scales keys and values have"):
        check(with_report(bundle, report))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -0.5])
def test_what_is_no_scale_is_refused_by_name(bundle: Bundle, value: float) -> None:
    spoil(bundle, value)
    with pytest.raises(BundleError, match=r"model\.layers\.0\.self_attn\.v_scale has values that are no scales"):
        check(bundle)


def test_a_manifest_of_another_cache_is_refused(bundle: Bundle) -> None:
    manifest = bundle.manifest
    float_cache = replace(manifest, precision=replace(manifest.precision, cache=None))
    with pytest.raises(BundleError, match=r"6 scales .* for a cache of float32, which the manifest has, there are 0"):
        check(replace(bundle, manifest=float_cache))


def test_a_manifest_of_a_cache_that_the_graph_has_not_is_refused(oracle_bundle: Bundle) -> None:
    manifest = oracle_bundle.manifest
    int8_cache = replace(manifest, precision=replace(manifest.precision, cache="int8"))
    with pytest.raises(BundleError, match="0 scales of keys and values; for a cache of int8"):
        check(replace(oracle_bundle, manifest=int8_cache))
