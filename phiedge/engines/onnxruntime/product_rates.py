"""How fast this machine multiplies matrices with ONNX Runtime's CPU kernels: the roof of prefill and of vision.

The kernels, the threads and how they wait are those that graphs run with, on one large product that stays in the
caches. float32 is what pictures and attention are computed in; 8-bit integers, accumulated in 32 bits, what quantised
weights are multiplied as. Whatever a graph does besides, and every kernel that is slower than its plain product, shows
as the distance from this roof.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.onnxruntime.buffers import alias
from phiedge.engines.onnxruntime.graph_run import session_options
from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.one_node import one_product
from phiedge.engines.threads import check_threads

_ROWS_PER_THREAD = 512
_MOST_ROWS = 8192
_SIDE = 1024  # of the weights
_WARM_UP, _LEAST_ROUNDS = 2, 5


def float_gflops(
    *, threads: int, seconds: float = 1.0, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> list[float]:
    """10⁹ operations per second of a float32 product, one rate for each round within `seconds`."""
    weights = np.linspace(-1.0, 1.0, _SIDE * _SIDE, dtype=np.float32).reshape(_SIDE, _SIDE)
    return _rates("MatMul", weights, np.float32, np.float32, threads=threads, seconds=seconds, clock_ns=clock_ns)


def int8_gops(*, threads: int, seconds: float = 1.0, clock_ns: Callable[[], int] = time.perf_counter_ns) -> list[float]:
    """10⁹ operations per second of a product of unsigned and signed bytes, one rate for each round within `seconds`."""
    weights = (np.arange(_SIDE * _SIDE) % 127 - 63).astype(np.int8).reshape(_SIDE, _SIDE)
    return _rates("MatMulInteger", weights, np.uint8, np.int32, threads=threads, seconds=seconds, clock_ns=clock_ns)


def _rates(
    operator: str,
    weights: npt.NDArray[Any],
    input_type: npt.DTypeLike,
    output_type: npt.DTypeLike,
    *,
    threads: int,
    seconds: float,
    clock_ns: Callable[[], int],
) -> list[float]:
    check_threads(threads)
    rows = min(_MOST_ROWS, _ROWS_PER_THREAD * threads)
    model = one_product(operator, rows=rows, weights=weights, input_type=input_type, output_type=output_type)
    session = ort.InferenceSession(model, sess_options=session_options(threads), providers=["CPUExecutionProvider"])
    # Both have names until the last run: a binding of ONNX Runtime 1.23, the last for Python 3.10, keeps nothing alive.
    entering, leaving = aligned_zeros((rows, _SIDE), input_type), aligned_zeros((rows, _SIDE), output_type)
    entering.fill(1)
    binding = session.io_binding()
    binding.bind_ortvalue_input("input", alias(entering))
    binding.bind_ortvalue_output("output", alias(leaving))
    operations = 2 * rows * _SIDE * _SIDE
    rates: list[float] = []
    until_ns = clock_ns() + int(seconds * 1e9)
    while len(rates) < _WARM_UP + _LEAST_ROUNDS or clock_ns() < until_ns:
        begun_ns = clock_ns()
        session.run_with_iobinding(binding)
        rates.append(operations / (clock_ns() - begun_ns))
    return rates[_WARM_UP:]
