import pytest

from phiedge.devices.roofline import Limit, Rates, limit, limit_of_all
from phiedge.devices.work import Work

RATES = Rates(read_gbps=50.0, weight_gops=800.0, float_gflops=200.0)


def test_work_that_reads_much_is_bound_by_memory() -> None:
    work = Work(weight_flop=1_000_000_000, attention_flop=0, read_bytes=500_000_000)
    assert limit(work, RATES) == Limit(ms=10.0, bound="memory")


def test_each_kind_of_product_has_its_own_rate() -> None:
    work = Work(weight_flop=8_000_000_000, attention_flop=2_000_000_000, read_bytes=50_000_000)
    assert limit(work, RATES) == Limit(ms=20.0, bound="arithmetic")


def test_runs_one_after_the_other_add_up_each_with_its_own_bound() -> None:
    reading = Work(weight_flop=0, attention_flop=0, read_bytes=500_000_000)
    computing = Work(weight_flop=800_000_000, attention_flop=0, read_bytes=0)
    assert limit_of_all((reading, computing), RATES) == Limit(ms=11.0, bound="memory")


def test_a_rate_of_nothing_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        Rates(read_gbps=0.0, weight_gops=1.0, float_gflops=1.0)
