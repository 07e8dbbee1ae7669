"""A bundle whose numbers are round, and rates to go with them."""

from dataclasses import replace

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.machine_rates import MachineRates, MeasuredRate


@pytest.fixture
def rates() -> MachineRates:
    def rate(best: float) -> MeasuredRate:
        return MeasuredRate(best=best, median=0.95 * best, rounds=10)

    return MachineRates(
        threads=2, float_type="float32", read_gbps=rate(50.0), float_gflops=rate(200.0), int8_gops=rate(800.0)
    )


@pytest.fixture
def listed_bundle(plain_bundle: Bundle) -> Bundle:
    """Its manifest lists 10 MB of decoder weights, 4 KB of rotary tables among them, and 1 MB of vision weights."""
    files = {
        **plain_bundle.manifest.files,
        "decoder.data": FileEntry(sha256="0" * 64, bytes=10_001_024),
        "vision.data": FileEntry(sha256="0" * 64, bytes=1_000_000),
    }
    return replace(plain_bundle, manifest=replace(plain_bundle.manifest, files=files))
