"""The outside of engines is what the exporter gives its graphs."""

from dataclasses import asdict
from pathlib import Path

import pytest

from phiedge.engines.tensorrt.ports import ANY, Ports, decoder_ports, vision_ports
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.graph_io import GraphIO, positioned_decoder_io, vision_io

ORACLE = Path(__file__).parents[2] / "oracle" / "tiny"


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    with open_checkpoint(ORACLE) as checkpoint:
        return checkpoint.config


def as_told(io: GraphIO) -> dict[str, object]:
    """What the exporter says, as an engine's ports."""
    return {
        side: [
            {
                "name": port.name,
                "shape": tuple(ANY if isinstance(size, str) else size for size in port.shape),
                "dtype": "float16" if port.dtype == "float" else port.dtype,
            }
            for port in getattr(io, side)
        ]
        for side in ("inputs", "outputs")
    }


def listed(ports: Ports) -> dict[str, object]:
    return {side: [asdict(port) for port in getattr(ports, side)] for side in ("inputs", "outputs")}


def test_vision_is_as_exported(config: ModelConfig) -> None:
    assert listed(vision_ports(config.facts())) == as_told(vision_io(config))


def test_a_decoder_of_the_modern_dialect_is_as_exported(config: ModelConfig) -> None:
    ports = decoder_ports(config.facts(), dialect="tensorrt", capacity=512)
    assert listed(ports) == as_told(positioned_decoder_io(config, max_context=512))


def test_a_decoder_of_the_conservative_dialect_gives_only_new_rows(config: ModelConfig) -> None:
    facts = config.facts()
    ports = decoder_ports(facts, dialect="tensorrt-10.3", capacity=512)
    past, present = ports.inputs[3], ports.outputs[1]
    assert (past.name, past.shape) == ("past.0.key", (1, facts.num_kv_heads, 512, facts.head_dim))
    assert (present.name, present.shape) == ("present.0.key", (1, facts.num_kv_heads, ANY, facts.head_dim))
    assert present.sized(256) == (1, facts.num_kv_heads, 256, facts.head_dim)
