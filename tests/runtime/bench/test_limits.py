import pytest

from phiedge.bundle import Bundle
from phiedge.devices.roofline import Limit
from phiedge.engines.machine_rates import MachineRates
from phiedge.runtime.bench.limits import Limits, Reads, limits_of, reads_of

POSITION_BYTES = 32


@pytest.fixture
def reads(listed_bundle: Bundle) -> Reads:
    return reads_of(listed_bundle, dialect="ort", position_bytes=POSITION_BYTES)


@pytest.fixture
def limits(listed_bundle: Bundle, reads: Reads, rates: MachineRates) -> Limits:
    return limits_of(listed_bundle, reads=reads, chunk_tokens=16, rates=rates)


def test_a_step_reads_the_weights_but_not_the_rotary_tables(reads: Reads) -> None:
    assert reads == Reads(decoder_bytes=10_000_000, vision_bytes=1_000_000, position_bytes=POSITION_BYTES)


def test_the_limit_of_a_step_is_its_bytes_over_the_bandwidth(limits: Limits) -> None:
    limit = limits.decode(40)
    assert limit is not None
    assert limit.bound == "memory"
    assert limit.ms == pytest.approx((10_000_000 + 40 * POSITION_BYTES) / 50e9 * 1e3)


def test_a_prompt_of_three_chunks_reads_the_weights_three_times(limits: Limits) -> None:
    limit = limits.prefill(40)
    assert limit is not None
    positions = 16 + 32 + 40
    assert limit.ms == pytest.approx((3 * 10_000_000 + positions * POSITION_BYTES) / 50e9 * 1e3)


def test_a_first_token_needs_the_picture_and_the_prompt(limits: Limits) -> None:
    prefill, picture = limits.prefill(20), limits.vision(4)
    assert prefill is not None
    assert picture is not None
    assert limits.first_token(tokens=20, patches=4) == Limit(ms=prefill.ms + picture.ms, bound="memory")
    assert limits.first_token(tokens=20, patches=None) == prefill


def test_without_rates_there_are_no_limits(listed_bundle: Bundle, reads: Reads) -> None:
    without = limits_of(listed_bundle, reads=reads, chunk_tokens=16, rates=None)
    assert without.decode(1) is without.prefill(1) is without.vision(1) is None
    assert without.first_token(tokens=2, patches=1) is None
    assert without.decode_work(1).read_bytes == 10_000_000 + POSITION_BYTES


def test_weights_of_a_real_bundle_are_what_its_graph_multiplies_by(tiny_bundle: Bundle) -> None:
    from benchmarks.graph_bytes import weight_bytes

    found = reads_of(tiny_bundle, dialect="ort", position_bytes=1).decoder_bytes
    counted = weight_bytes(tiny_bundle.file(tiny_bundle.manifest.dialects["ort"].decoder))
    assert counted <= found <= 1.02 * counted, "what is aligned has gaps"
