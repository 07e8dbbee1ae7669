import pytest

from phiedge.bundle import Bundle
from phiedge.devices.host import Disturbance
from phiedge.engines.machine_rates import MachineRates
from phiedge.runtime.bench.decode import DecodeSamples
from phiedge.runtime.bench.limits import Limits, limits_of, reads_of
from phiedge.runtime.bench.plan import PictureCase
from phiedge.runtime.bench.rows import decode_rows, first_token_row, prefill_rows, vision_rows
from phiedge.runtime.bench.vision import VisionSamples
from phiedge.runtime.preprocess import Grid

QUIET = Disturbance(minor_faults=0, major_faults=0, involuntary_switches=0)
PICTURE = PictureCase(width=32, height=32, grid=Grid(rows=2, columns=2))


@pytest.fixture
def limits(listed_bundle: Bundle, rates: MachineRates) -> Limits:
    reads = reads_of(listed_bundle, dialect="ort", position_bytes=32)
    return limits_of(listed_bundle, reads=reads, chunk_tokens=16, rates=rates)


def test_a_step_stands_beside_its_limit(limits: Limits) -> None:
    samples = DecodeSamples(token_ns=(400_000, 500_000, 800_000), host_ns=(5_000, 6_000, 90_000), disturbance=QUIET)
    (row,) = decode_rows({64: samples}, limits)
    assert (row.context, row.ms.count, row.ms.p50, row.ms.p99, row.ms.most) == (64, 3, 0.5, None, 0.8)
    assert row.tokens_per_s == 2000.0
    assert row.host_us.p50 == 6.0
    assert row.read_bytes == 10_000_000 + 64 * 32
    assert row.limit is not None
    assert row.limit.share == pytest.approx(row.limit.limit_ms / 0.5)
    assert row.limit.share == pytest.approx(0.4, rel=0.01)


def test_a_prompt_has_its_rate_and_its_chunks(limits: Limits) -> None:
    (row,) = prefill_rows({40: (2_000_000, 4_000_000, 3_000_000)}, limits)
    assert (row.tokens, row.chunks, row.ms.p50) == (40, 3, 3.0)
    assert row.tokens_per_s == pytest.approx(40 / 0.003)


def test_a_picture_has_its_patches_and_the_way_to_them(limits: Limits) -> None:
    (row,) = vision_rows({PICTURE: VisionSamples(vision_ms=(2.0,), preprocess_ms=(0.5,))}, limits)
    assert (row.picture, row.patches, row.ms.p50, row.preprocess_ms.p50) == ("32x32", 4, 2.0, 0.5)


def test_a_request_without_a_picture_has_none(limits: Limits) -> None:
    row = first_token_row((None, 20, (9_000_000,)), limits)
    assert row is not None
    assert (row.picture, row.tokens, row.ms.p50) == (None, 20, 9.0)
    assert first_token_row(None, limits) is None
