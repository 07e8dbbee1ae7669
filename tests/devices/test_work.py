"""The formulas, held against the figures of the 15B that were counted from its shapes."""

from dataclasses import replace

import pytest

from phiedge.bundle import ModelFacts
from phiedge.devices.work import (
    Work,
    cache_bytes,
    chunked_prefill_work,
    decode_work,
    prefill_work,
    rotary_bytes,
    vision_work,
)

WEIGHTS_BYTES = 7_544_000_000
POSITION_BYTES = 204_800


@pytest.fixture
def facts(plain_manifest) -> ModelFacts:
    """The shapes of Phi-4-reasoning-vision-15B."""
    return replace(
        plain_manifest.facts,
        vocab_size=100352,
        hidden_size=5120,
        num_layers=40,
        num_heads=40,
        num_kv_heads=10,
        head_dim=128,
        intermediate_size=17920,
        vision_hidden_size=1152,
        vision_layers_used=26,
        vision_heads=16,
        vision_intermediate_size=4304,
        patch_size=16,
        min_num_patches=256,
        max_num_patches=3600,
    )


@pytest.mark.parametrize("tokens", [1024, 4096, 16384])
def test_prefill_is_that_of_the_cost_model(facts: ModelFacts, tokens: int) -> None:
    work = prefill_work(facts, tokens=tokens, past=0, weights_bytes=WEIGHTS_BYTES, position_bytes=POSITION_BYTES)
    head = 2 * 100352 * 5120
    assert work.weight_flop == 27_262_976_000 * tokens + head
    assert work.attention_flop == 409_600 * tokens**2
    assert work.read_bytes == WEIGHTS_BYTES + POSITION_BYTES * tokens


def test_a_prompt_of_4096_tokens_takes_118_tera_operations(facts: ModelFacts) -> None:
    work = prefill_work(facts, tokens=4096, past=0, weights_bytes=0, position_bytes=0)
    assert work.flop / 1e12 == pytest.approx(118.5, abs=0.05)


def test_a_decode_step_is_that_of_the_cost_model(facts: ModelFacts) -> None:
    work = decode_work(facts, context=4096, weights_bytes=WEIGHTS_BYTES, position_bytes=POSITION_BYTES)
    assert work.weight_flop / 1e9 == pytest.approx(28.29, abs=0.005)
    assert work.attention_flop == 819_200 * 4096
    assert work.read_bytes == WEIGHTS_BYTES + 204_800 * 4096


@pytest.mark.parametrize("patches", [256, 1024, 3600])
def test_a_picture_is_that_of_the_cost_model(facts: ModelFacts, patches: int) -> None:
    work = vision_work(facts, patches=patches, weights_bytes=859_000_000)
    assert work.weight_flop == (793_460_736 + 64_225_280) * patches
    assert work.attention_flop == 119_808 * patches**2
    assert work.read_bytes == 859_000_000


def test_chunks_do_the_same_arithmetic_as_a_whole_prompt_but_read_the_weights_again(facts: ModelFacts) -> None:
    whole = prefill_work(facts, tokens=600, past=0, weights_bytes=WEIGHTS_BYTES, position_bytes=POSITION_BYTES)
    chunks = chunked_prefill_work(
        facts, tokens=600, chunk_tokens=256, weights_bytes=WEIGHTS_BYTES, position_bytes=POSITION_BYTES
    )
    assert len(chunks) == 3
    assert sum(chunk.attention_flop for chunk in chunks) == whole.attention_flop
    head = 2 * 100352 * 5120
    assert sum(chunk.weight_flop - head for chunk in chunks) == whole.weight_flop - head
    assert sum(chunk.read_bytes for chunk in chunks) == 3 * WEIGHTS_BYTES + POSITION_BYTES * (256 + 512 + 600)


def test_a_position_of_the_cache_takes_204800_bytes_at_sixteen_bits(facts: ModelFacts) -> None:
    assert cache_bytes(facts, positions=1, item_bytes=2) == POSITION_BYTES
    assert cache_bytes(facts, positions=10, item_bytes=4) == 20 * POSITION_BYTES


def test_rotary_tables_have_a_cosine_and_a_sine_for_half_a_head(facts: ModelFacts) -> None:
    assert rotary_bytes(facts, positions=4096, item_bytes=4) == 2 * 4096 * 64 * 4


def test_works_add_up() -> None:
    one = Work(weight_flop=1, attention_flop=2, read_bytes=3)
    assert one + one == Work(weight_flop=2, attention_flop=4, read_bytes=6)
    assert one.flop == 3
