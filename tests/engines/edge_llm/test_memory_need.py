from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.edge_llm.memory_need import exporter_bytes, require_memory_to_export, written_bytes
from phiedge.errors import DeviceError


def published(path: Path, layers: int) -> ModelFacts:
    """The published width."""
    return replace(
        Bundle.open(path).manifest.facts,
        hidden_size=5120,
        intermediate_size=17920,
        num_heads=40,
        num_kv_heads=10,
        head_dim=128,
        num_layers=layers,
        vocab_size=100352,
    )


@pytest.mark.parametrize(
    ("layers", "vocabulary", "measured_bytes"),
    [(1, 100352, 3058928 * 1024), (2, 100352, 3469468 * 1024), (1, 4096, 3254218752)],
)
def test_what_was_measured_at_the_published_width_is_told(
    exported_bundle: Path, layers: int, vocabulary: int, measured_bytes: int
) -> None:
    facts = replace(published(exported_bundle, layers), vocab_size=vocabulary)
    assert exporter_bytes(facts) == pytest.approx(measured_bytes, rel=0.06)


def test_the_whole_model_is_exported_within_24_gib(exported_bundle: Path) -> None:
    facts = published(exported_bundle, 40)
    assert 19e9 < exporter_bytes(facts) < 24 * 2**30
    assert written_bytes(facts, vision_bytes=900_000_000) == pytest.approx(19.4e9, rel=0.02)


def test_a_machine_that_cannot_hold_it_is_told_so(exported_bundle: Path) -> None:
    with pytest.raises(DeviceError, match="tensorrt-edgellm on this model needs .* MB of memory"):
        require_memory_to_export(published(exported_bundle, 40_000))
