"""What is planned for a bundle, and refused before anything is built."""

from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Bundle, Manifest
from phiedge.devices import memory_limits
from phiedge.engines.tensorrt import building
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.library import Library, load_library
from phiedge.errors import BundleError, DeviceError, UsageError
from tensorrt_runtime import library as stand_in
from tensorrt_surfaces import JETPACK_6, TENSORRT_11

MIB = 1 << 20


@pytest.fixture(scope="module")
def rtx() -> Library:
    return load_library("tensorrt-rtx")


def changed(bundle: Bundle, **facts: object) -> Bundle:
    manifest: Manifest = replace(bundle.manifest, **facts)
    return Bundle(path=bundle.path, manifest=manifest)


def test_the_target_of_the_bundle_says_what_is_built(gpu_bundle: Bundle, rtx: Library) -> None:
    assert building.choose_families(gpu_bundle, rtx, None) == [(89, 120)]
    assert building.choose_families(gpu_bundle, rtx, [86]) == [(86,)]


@pytest.mark.parametrize(
    ("target", "message", "remedy"),
    [
        ("agx-orin-64", "is for agx-orin-64, which TensorRT-RTX does not build for", "--backend tensorrt; for other"),
        ("cpu", "is for cpu, which has no GPU", "--sm 86,89,120"),
    ],
)
def test_a_bundle_for_something_else_needs_the_gpus_named(
    gpu_bundle: Bundle, rtx: Library, target: str, message: str, remedy: str
) -> None:
    bundle = changed(gpu_bundle, target={"name": target})
    with pytest.raises(UsageError, match=message) as caught:
        building.choose_families(bundle, rtx, None)
    assert remedy in str(caught.value.remedy)
    assert building.choose_families(bundle, rtx, [120]) == [(89, 120)]


def test_on_the_device_the_gpu_at_hand_says_it(gpu_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    orin = Gpu(name="Orin", sm=87, integrated=True, memory_bytes=64 << 30, cuda=(12, 6))
    monkeypatch.setattr(building, "this_gpu", lambda: orin)
    full = stand_in(TENSORRT_11)
    assert building.choose_families(gpu_bundle, full, None) == [(87,)]
    assert building.choose_families(gpu_bundle, full, [87]) == [(87,)]
    with pytest.raises(UsageError, match="the GPU at hand, which is SM 87, not 86"):
        building.choose_families(gpu_bundle, full, [86])


def test_a_bundle_without_the_dialect_is_refused_naming_both(gpu_bundle: Bundle, rtx: Library) -> None:
    assert building.check_buildable(gpu_bundle, rtx, (86,)) == gpu_bundle.manifest.dialects["tensorrt"]
    modern = {name: dialect for name, dialect in gpu_bundle.manifest.dialects.items() if name in ("ort", "tensorrt")}
    with pytest.raises(BundleError, match=r"dialects ort, tensorrt, tensorrt \S+ needs tensorrt-10.3") as caught:
        building.check_buildable(changed(gpu_bundle, dialects=modern), stand_in(JETPACK_6), (87,))
    assert "--target orin" in str(caught.value.remedy)


def test_a_context_that_attention_has_no_kernel_for_is_refused(gpu_bundle: Bundle, rtx: Library) -> None:
    most = 24576 - gpu_bundle.manifest.facts.head_dim
    dialect = gpu_bundle.manifest.dialects["tensorrt"]
    for context in (most, most + 1):
        bundle = changed(gpu_bundle, dialects={"tensorrt": replace(dialect, max_context=context)})
        if context == most:
            building.check_buildable(bundle, rtx, (89,))
            continue
        with pytest.raises(UsageError, match=f"a context of {context} positions; .* goes up to {most}") as caught:
            building.check_buildable(bundle, rtx, (89,))
        assert f"--max-context {most}" in str(caught.value.remedy)


def test_fp8_is_refused_by_name_for_a_gpu_without_it(gpu_bundle: Bundle, rtx: Library) -> None:
    bundle = changed(gpu_bundle, precision=replace(gpu_bundle.manifest.precision, decoder="float8"))
    building.check_buildable(bundle, rtx, (89, 120))
    with pytest.raises(UsageError, match="the decoder is stored as FP8, and SM 86 has no FP8 units"):
        building.check_buildable(bundle, rtx, (86,))


def test_too_little_memory_is_refused_with_both_numbers(gpu_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = gpu_bundle.manifest.dialects["tensorrt"]
    building.require_memory_to_build(gpu_bundle, dialect)
    monkeypatch.setattr(memory_limits, "available_memory_bytes", lambda **_: 200 * MIB)
    with pytest.raises(DeviceError, match=r"needs [\d,]+ MB of memory, the machine leaves 210 MB") as caught:
        building.require_memory_to_build(gpu_bundle, dialect)
    assert "a machine with more memory" in str(caught.value.remedy)


def test_vision_has_one_profile_and_the_decoder_one_for_a_row_and_one_for_a_chunk(
    gpu_bundle: Bundle, rtx: Library, tmp_path: Path
) -> None:
    vision, decoder = building.requests(gpu_bundle, rtx, (89, 120), tmp_path, threads=2)
    facts, dialect = gpu_bundle.manifest.facts, gpu_bundle.manifest.dialects["tensorrt"]
    assert vision.profiles == ((1, facts.max_num_patches, facts.max_num_patches),)
    assert decoder.profiles == ((1, 1, 1), (256, 256, 256))
    assert (decoder.capacity, decoder.caches, vision.caches) == (dialect.max_context, 2 * facts.num_layers, 0)
    assert {vision.sms, decoder.sms} == {(89, 120)}
    assert {vision.threads, decoder.threads} == {2}
    assert {vision.timing_cache, decoder.timing_cache} == {None}
    assert {Path(asked.engine).parent for asked in (vision, decoder)} == {tmp_path}


def test_a_chunk_is_no_longer_than_the_cache(gpu_bundle: Bundle) -> None:
    dialect = gpu_bundle.manifest.dialects["tensorrt"]
    assert building.chunk_tokens(replace(dialect, max_context=64)) == 64


def test_engines_take_the_bytes_of_the_weights_and_little_more(gpu_bundle: Bundle) -> None:
    dialect = gpu_bundle.manifest.dialects["tensorrt"]
    weights_bytes = sum((gpu_bundle.path / name).stat().st_size for name in ("vision.data", "decoder.data"))
    assert 0 < building.engine_bytes(gpu_bundle, dialect) - weights_bytes < 100 * MIB
