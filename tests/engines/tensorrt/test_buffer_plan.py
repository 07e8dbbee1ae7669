from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from phiedge.bundle import ModelFacts
from phiedge.engines.tensorrt.bindings import Binding
from phiedge.engines.tensorrt.buffer_plan import DecoderPlan, InputLayout, plan_decoder
from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES
from phiedge.engines.tensorrt.ports import decoder_ports
from phiedge.errors import BundleError

PATH = Path("decoder.engine")
# The decoder of the published size: 40 layers, 10 heads of keys and values of 128.
FULL = DecoderPlan(
    slots=tuple(f"{layer}.{side}" for layer in range(40) for side in ("key", "value")),
    capacity=4096,
    chunk_tokens=256,
    hidden=5120,
    vocab=100_352,
    kv_heads=10,
    head_bytes=128 * 2,
    in_place=True,
)
ROWS = replace(FULL, in_place=False)
# Sizes that are no multiples of anything.
RAGGED = DecoderPlan(
    slots=("0.key", "0.value"),
    capacity=7,
    chunk_tokens=3,
    hidden=5,
    vocab=11,
    kv_heads=3,
    head_bytes=96,
    in_place=False,
)


def bindings(facts: ModelFacts, *, dialect: str, capacity: int, chunk: tuple[int, int]) -> dict[str, Binding]:
    ports = decoder_ports(facts, dialect=dialect, capacity=capacity)
    found = {}
    for port in (*ports.inputs, *ports.outputs):
        is_input = port in ports.inputs
        ranges = [tuple(port.sized(size) for size in (low, high, high)) for low, high in ((1, 1), chunk)]
        found[port.name] = Binding(
            name=port.name,
            is_input=is_input,
            dtype=port.dtype,
            shape=port.shape,
            profiles=tuple(ranges) if is_input else (),
        )
    return found


@pytest.fixture
def facts(plain_manifest: object) -> ModelFacts:
    return plain_manifest.facts


def test_a_step_of_the_published_size_moves_one_row_and_a_piece_for_its_place() -> None:
    assert FULL.step.size_bytes == 2 * 5120 + 256 + 8
    assert FULL.logits_bytes == 4 * 100_352


def test_the_cache_of_the_published_size_is_what_the_model_needs_and_no_more() -> None:
    assert FULL.cache_bytes == 2 * 40 * 10 * 128 * 2 * 4096 == 838_860_800
    assert FULL.rows_bytes == 0
    inputs = 256 * 5120 * 2 + 256 * 8 + 8 + 2 * 5120 + 256 + 8
    assert 0 <= FULL.total_bytes - FULL.cache_bytes - FULL.logits_bytes - inputs < 3 * ALIGNMENT_BYTES


@pytest.mark.parametrize("plan", [FULL, ROWS, RAGGED, replace(RAGGED, in_place=True)])
def test_every_address_is_aligned_and_no_two_pieces_overlap(plan: DecoderPlan) -> None:
    base = 1 << 20
    for layout in (plan.step, plan.chunk):
        ends = [layout.rows * layout.hidden * 2, layout.positions + layout.rows * 8, layout.size_bytes]
        for start, end, following in zip(
            layout.addresses.values(), ends, [*list(layout.addresses.values())[1:], layout.size_bytes], strict=True
        ):
            assert start % ALIGNMENT_BYTES == 0
            assert start < end <= following
    for addresses, size_bytes in (
        (plan.caches(base), plan.heads * plan.capacity * plan.head_bytes),
        (plan.new_rows(base, rows=plan.chunk_tokens), plan.heads * plan.chunk_tokens * plan.head_bytes),
    ):
        starts = list(addresses.values())
        assert all(start % ALIGNMENT_BYTES == 0 for start in starts)
        assert all(one + size_bytes <= other for one, other in pairwise(starts))


def test_new_rows_of_the_published_size_are_put_into_the_cache_by_one_copy_without_padding() -> None:
    assert (ROWS.heads, ROWS.cache_bytes) == (10, FULL.cache_bytes)
    copy = ROWS.into_cache(rows_at=0, caches_at=1 << 30, rows=256, used=3, past=100)
    assert (copy.lines, copy.line_bytes) == (2 * 40 * 10, 3 * 256)
    assert (copy.source_pitch_bytes, copy.target_pitch_bytes) == (256 * 256, 4096 * 256)
    assert copy.target == (1 << 30) + 100 * 256


@pytest.mark.parametrize("rows", [1, 3])
def test_each_head_of_each_slot_gets_its_own_new_rows(rows: int) -> None:
    assert RAGGED.heads == 8  # of 96 bytes, the first whole number of pieces of 256
    copy = RAGGED.into_cache(rows_at=1 << 20, caches_at=1 << 21, rows=rows, used=1, past=4)
    lines = {
        copy.source + line * copy.source_pitch_bytes: copy.target + line * copy.target_pitch_bytes
        for line in range(copy.lines)
    }
    for slot, cache in RAGGED.caches(1 << 21).items():
        for head in range(RAGGED.kv_heads):
            source = RAGGED.new_rows(1 << 20, rows=rows)[slot] + head * rows * 96
            assert lines[source] == cache + (head * 7 + 4) * 96


def test_a_plan_is_made_of_the_engine_and_the_facts(facts: ModelFacts) -> None:
    found = bindings(facts, dialect="tensorrt", capacity=64, chunk=(16, 16))
    plan = plan_decoder(PATH, found, facts, dialect="tensorrt", capacity=64)
    assert (plan.chunk_tokens, plan.slots, plan.in_place) == (16, ("0.key", "0.value"), True)
    assert (plan.kv_heads, plan.head_bytes) == (facts.num_kv_heads, facts.head_dim * 2)


def test_the_conservative_dialect_gives_new_rows(facts: ModelFacts) -> None:
    found = bindings(facts, dialect="tensorrt-10.3", capacity=64, chunk=(16, 16))
    plan = plan_decoder(PATH, found, facts, dialect="tensorrt-10.3", capacity=64)
    assert not plan.in_place
    assert plan.rows_bytes == 2 * plan.rows_pitch_bytes(16)


@pytest.mark.parametrize(
    ("chunk", "capacity", "told"),
    [((1, 16), 64, r"profiles of \[\(1, 1\), \(1, 16\)\]"), ((65, 65), 64, "chunks of 65 rows, .* need 64 at most")],
)
def test_profiles_that_are_not_a_row_and_a_chunk_are_refused(
    facts: ModelFacts, chunk: tuple[int, int], capacity: int, told: str
) -> None:
    found = bindings(facts, dialect="tensorrt", capacity=capacity, chunk=chunk)
    with pytest.raises(BundleError, match=told):
        plan_decoder(PATH, found, facts, dialect="tensorrt", capacity=capacity)


def test_an_engine_of_another_capacity_is_refused_with_both_shapes(facts: ModelFacts) -> None:
    found = bindings(facts, dialect="tensorrt", capacity=32, chunk=(16, 16))
    with pytest.raises(BundleError, match=r"past.0.key \[1, 1, 32, 4\] in float16, .* need past.0.key \[1, 1, 64, 4\]"):
        plan_decoder(PATH, found, facts, dialect="tensorrt", capacity=64)


def test_an_engine_of_another_number_of_layers_is_refused_with_the_names(facts: ModelFacts) -> None:
    found = bindings(replace(facts, num_layers=2), dialect="tensorrt", capacity=64, chunk=(16, 16))
    with pytest.raises(BundleError, match=r"the inputs past\.1\.key, past\.1\.value .* need none"):
        plan_decoder(PATH, found, facts, dialect="tensorrt", capacity=64)


def test_an_engine_in_another_type_is_refused(facts: ModelFacts) -> None:
    found = bindings(facts, dialect="tensorrt", capacity=64, chunk=(16, 16))
    found["logits"] = replace(found["logits"], dtype="float16")
    with pytest.raises(BundleError, match=r"logits \[1, 1, 16\] in float16, .* need logits \[1, 1, 16\] in float32"):
        plan_decoder(PATH, found, facts, dialect="tensorrt", capacity=64)


def test_inputs_with_profiles_of_their_own_are_refused(facts: ModelFacts) -> None:
    found = bindings(facts, dialect="tensorrt", capacity=64, chunk=(16, 16))
    other = bindings(facts, dialect="tensorrt", capacity=64, chunk=(8, 8))
    found["position_ids"] = other["position_ids"]
    with pytest.raises(BundleError, match=r"position_ids of \[\(1, 1\), \(8, 8\)\], .* inputs_embeds's"):
        plan_decoder(PATH, found, facts, dialect="tensorrt", capacity=64)


def test_an_input_layout_says_where_everything_is() -> None:
    layout = InputLayout(rows=3, hidden=5)
    assert layout.addresses == {"inputs_embeds": 0, "position_ids": 256, "last_row": 512}
    assert layout.size_bytes == 520
