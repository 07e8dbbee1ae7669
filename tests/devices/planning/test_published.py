"""The published rows: read strictly, and moved what their models' shapes say."""

import copy
import sys
from typing import Any

import pytest

from phiedge.devices.planning.published import FAMILIES, PUBLISHED, parse, rows
from phiedge.errors import DeviceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def document() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(PUBLISHED.read_text(encoding="utf-8")))


def test_every_row_has_a_source_that_can_be_opened_and_reached_no_more_than_its_limit() -> None:
    assert len(rows()) > 50
    for row in rows():
        assert row.source.url
        assert row.family in FAMILIES
        assert 0 < row.share <= 1


def test_nothing_is_declared_that_no_row_uses(document: dict[str, Any]) -> None:
    every = document["decode"] + document["prefill"]
    for kind, key in (("sources", "source"), ("models", "model"), ("cards", "device"), ("formats", "format")):
        assert set(document[kind]) <= {row.get(key) for row in every}


@pytest.mark.parametrize(
    ("device", "model", "engine", "share"),
    [
        ("agx-orin-64", "Qwen3-8B", "TensorRT Edge-LLM 0.10", 0.77),
        ("orin-nx-16", "Qwen3-8B", "TensorRT Edge-LLM 0.10", 0.88),
        ("dgx-spark", "Qwen3-8B", "TensorRT Edge-LLM 0.10", 0.82),
        ("rtx-3060", "Qwen3-14B", "llama.cpp 2026", 0.73),
        ("rtx-5090", "Qwen3-14B", "llama.cpp 2026", 0.66),
        ("rtx-4090", "Llama-2-13B", "MLC", 0.78),
    ],
)
def test_the_share_of_the_bandwidth_is_that_of_the_bytes_moved(
    device: str, model: str, engine: str, share: float
) -> None:
    found = [
        row
        for row in rows()
        if (row.kind, row.machine.name, row.model.title, row.engine) == ("decode", device, model, engine)
    ]
    assert found[0].share == pytest.approx(share, abs=0.01)


def test_a_rate_beyond_the_bandwidth_is_refused(document: dict[str, Any]) -> None:
    # A page claims 110 tokens per second of a 14B in 8 bits on a 4090, whose memory allows 72.
    document["decode"][0] |= {"device": "rtx-4090", "model": "qwen3-14b", "format": "fp16", "tokens_per_s": 110}
    with pytest.raises(DeviceError, match="less than its limit"):
        parse(document)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"device": "rtx-9090"}, "published.decode\\[0\\].device"),
        ({"model": "unknown"}, "published.decode\\[0\\].model"),
        ({"source": "hearsay"}, "published.decode\\[0\\].source"),
        ({"family": "fast"}, "published.decode\\[0\\].family"),
        ({"speed": 1}, "speed is not a key"),
        ({"context": "long"}, "published.decode\\[0\\].context"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(
    document: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    document["decode"][0] |= change
    with pytest.raises(DeviceError, match=complaint):
        parse(document)


def test_a_prompt_needs_a_rate_to_be_held_against(document: dict[str, Any]) -> None:
    document["prefill"][0] |= {"arithmetic": "nvfp4"}
    with pytest.raises(DeviceError, match="no rate for nvfp4"):
        parse(document)


def test_another_schema_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="schema_version"):
        parse(document | {"schema_version": 2})
