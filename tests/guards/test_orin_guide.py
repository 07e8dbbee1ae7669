"""The tables of the Orin guide, worked out again from the model's facts and the catalogue of devices."""

from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Manifest, ModelFacts
from phiedge.devices import Device, find
from phiedge.devices.work import cache_bytes, rotary_bytes
from phiedge.engines.tensorrt.building import memory_to_build
from phiedge.engines.tensorrt.memory_need import LIBRARY_BYTES
from phiedge.exporters.config import ModelConfig
from published import PUBLISHED_CONFIG

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "orin.md"
DEVICES = ("agx-orin-64", "agx-orin-32", "orin-nx-16")
GROUP, SCALE_BYTES, HALF = 128, 2, 2
SYSTEM_BYTES = 1_800_000_000
SCRATCH_BYTES = 100_000_000  # what TensorRT-RTX's engine at SM 86 says for a chunk over 4096 positions
MAPS_WEIGHTS = {"JetPack 7.2": True, "JetPack 6.2": False}
CONTEXTS = (8192, 2048)


@pytest.fixture
def facts(plain_manifest: Manifest) -> ModelFacts:
    """Of the 15B, as published, as far as sizes go."""
    config = ModelConfig.from_json(PUBLISHED_CONFIG)
    return replace(
        plain_manifest.facts,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        vision_hidden_size=config.vision_hidden_size,
        vision_layers_used=config.vision_layers_used,
        vision_intermediate_size=config.vision_intermediate_size,
        patch_size=config.patch_size,
    )


def int4_bytes(weights: int) -> int:
    return weights // 2 + weights // GROUP * SCALE_BYTES


def decoder_bytes(facts: ModelFacts) -> int:
    attention = facts.hidden_size * facts.head_dim * 2 * (facts.num_heads + facts.num_kv_heads)
    layer = attention + 3 * facts.hidden_size * facts.intermediate_size
    return int4_bytes(facts.num_layers * layer + facts.vocab_size * facts.hidden_size)


def vision_bytes(facts: ModelFacts) -> int:
    width = facts.vision_hidden_size
    block = 4 * width * width + 2 * width * facts.vision_intermediate_size
    projector = width * facts.hidden_size + facts.hidden_size**2
    return HALF * (facts.vision_layers_used * block + 3 * facts.patch_size**2 * width + projector)


def embeddings_bytes(facts: ModelFacts) -> int:
    return HALF * facts.vocab_size * facts.hidden_size


def cache(facts: ModelFacts, positions: int) -> int:
    return cache_bytes(facts, positions=positions, item_bytes=HALF)


def run_bytes(facts: ModelFacts, context: int) -> int:
    weights = decoder_bytes(facts) + vision_bytes(facts) + embeddings_bytes(facts)
    tables = rotary_bytes(facts, positions=context, item_bytes=HALF)
    return weights + tables + cache(facts, context) + LIBRARY_BYTES + SCRATCH_BYTES + SYSTEM_BYTES


def build_bytes(facts: ModelFacts, jetpack: str) -> int:
    maps_weights = MAPS_WEIGHTS[jetpack]
    return SYSTEM_BYTES + memory_to_build(facts, weights_bytes=decoder_bytes(facts), maps_weights=maps_weights)


def seen_bytes(device: Device) -> int:
    figure = device.visible_bytes or device.memory_bytes
    assert figure is not None
    return figure.value


def gb(size_bytes: float, digits: int = 1) -> str:
    return f"{size_bytes / 1e9:.{digits}f}"


def model_rows(facts: ModelFacts) -> list[str]:
    rows = [
        ("decoder at int4, with its head", decoder_bytes(facts)),
        ("vision encoder and projector, float16", vision_bytes(facts)),
        ("token embeddings, mapped from the disk", embeddings_bytes(facts)),
        ("cache, for 1024 positions", cache(facts, 1024)),
        ("CUDA, TensorRT and what its kernels work in (assumed)", LIBRARY_BYTES + SCRATCH_BYTES),
    ]
    return [f"| {what} | {gb(size_bytes, 2)} |" for what, size_bytes in rows]


def device_row(facts: ModelFacts, device: Device) -> str:
    seen = seen_bytes(device)
    assert device.bandwidth_gbps is not None
    runs = [f"{gb(run_bytes(facts, context))}" for context in CONTEXTS]
    assert all(run_bytes(facts, context) < seen for context in CONTEXTS)
    needed = [build_bytes(facts, jetpack) for jetpack in MAPS_WEIGHTS]
    builds = [gb(size_bytes) if size_bytes < seen else f"{gb(size_bytes)}: **no**" for size_bytes in needed]
    token_ms = (decoder_bytes(facts) + cache(facts, 2048)) / device.bandwidth_gbps.value / 1e6
    return f"| {device.title} | {gb(seen)} | {' | '.join((*runs, *builds))} | {token_ms:.0f} |"


def test_the_parts_of_the_model_are_as_large_as_the_guide_says(facts: ModelFacts) -> None:
    page = GUIDE.read_text()
    assert [row for row in model_rows(facts) if row not in page] == []


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_holds_what_the_guide_says(facts: ModelFacts, name: str) -> None:
    row = device_row(facts, find(name))
    assert row in GUIDE.read_text(), row


def test_less_context_saves_what_the_guide_says(facts: ModelFacts) -> None:
    saved_bytes = cache(facts, CONTEXTS[0]) - cache(facts, CONTEXTS[1])
    assert f"2048 instead of 8192 saves {gb(saved_bytes)} GB" in GUIDE.read_text()
