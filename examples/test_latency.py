"""Latency budgets in a test suite: phiedge brings the mark and the fixture.

PHIEDGE_BUNDLE=bundle pytest examples/test_latency.py
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiedge import Session
from phiedge.acceptance.pytest_plugin import LatencyCheck

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """The bundle that is tested, open for all tests."""
    with Session.open(os.environ["PHIEDGE_BUNDLE"]) as opened:
        yield opened


@pytest.mark.latency_budget(limit_ms=5000, quantile=0.9)
def test_the_kiosk_is_read_in_time(latency_budget: LatencyCheck, session: Session) -> None:
    """At least 90 of 100 answers are there within 5 s; it stops as soon as that is shown, after some thirty."""
    latency_budget.check(
        lambda: session.generate("What number is on the display?", [HERE / "kiosk.png"], think="off", max_new_tokens=8)
    )


@pytest.mark.latency_budget(limit_ms=2000, quantile=0.8, period_ms=100, clustering=0.5, warmup_requests=2)
def test_a_control_loop_gets_its_answer(latency_budget: LatencyCheck, session: Session) -> None:
    """Ten times a second, late ones counted from when they should have begun; misses may come in clusters."""
    latency_budget.check(lambda: session.generate("Is there a red button?", think="off", max_new_tokens=2))
