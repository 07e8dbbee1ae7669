import itertools
import weakref

import pytest

from phiedge.engines.onnxruntime import product_rates
from phiedge.engines.onnxruntime.buffers import alias
from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.product_rates import float_gflops, int8_gops
from phiedge.errors import UsageError


@pytest.mark.parametrize("measure", [float_gflops, int8_gops])
def test_a_rate_is_the_operations_of_the_product_over_its_time(measure) -> None:
    ticks = itertools.count(0, 1_000_000)
    rates = measure(threads=1, seconds=0, clock_ns=lambda: next(ticks))
    assert rates == pytest.approx([2 * 512 * 1024 * 1024 / 1e6] * 5)


def test_what_a_product_writes_into_lives_until_it_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = []

    def without_a_reference(array):  # as bindings of ONNX Runtime 1.23 forget it
        arrays.append(weakref.ref(array))
        return ort.OrtValue(alias(array)._ortvalue)

    alive = []

    def now():
        alive.append([array() is not None for array in arrays])
        return len(alive) * 1_000_000

    monkeypatch.setattr(product_rates, "alias", without_a_reference)
    product_rates.int8_gops(threads=1, seconds=0, clock_ns=now)
    assert len(alive) > 10
    assert all(each == [True, True] for each in alive)


def test_a_number_of_threads_that_no_machine_has_is_refused() -> None:
    with pytest.raises(UsageError, match="threads must be"):
        float_gflops(threads=10**6)
