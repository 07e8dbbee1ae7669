"""Holm's correction."""

import pytest

from phiedge.acceptance.multiplicity import holm


def test_it_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_one_claim_stays_as_it_is() -> None:
    assert holm([0.049]) == (0.049,)
    assert holm([]) == ()


def test_nothing_gets_likelier_than_certain() -> None:
    assert holm([0.9, 0.8]) == (1.0, 1.0)
