import itertools

import pytest

from phiedge.engines.onnxruntime.product_rates import float_gflops, int8_gops
from phiedge.errors import UsageError


@pytest.mark.parametrize("measure", [float_gflops, int8_gops])
def test_a_rate_is_the_operations_of_the_product_over_its_time(measure) -> None:
    ticks = itertools.count(0, 1_000_000)
    rates = measure(threads=1, seconds=0, clock_ns=lambda: next(ticks))
    assert rates == pytest.approx([2 * 512 * 1024 * 1024 / 1e6] * 5)


def test_a_number_of_threads_that_no_machine_has_is_refused() -> None:
    with pytest.raises(UsageError, match="threads must be"):
        float_gflops(threads=10**6)
