"""What a device can do, measured through ONNX Runtime: how fast its memory is copied, how fast it multiplies.

Both are one operator on arrays that lie on the device, large enough that starting it costs little beside the work. A
copy reads as much as it writes, and the sum of both is what counts: no kernel that only reads is as well tuned.
Products are of 16-bit floats, which is what a device computes quantised weights with, too.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from phiedge.engines.onnxruntime.graph_run import session_options
from phiedge.engines.onnxruntime.library import ORT_ERRORS, first_line, ort
from phiedge.engines.onnxruntime.one_node import one_by_one, one_product
from phiedge.engines.onnxruntime.provider import Provider
from phiedge.errors import SessionError

COPY_BYTES = 2**29  # in each direction; caches of devices hold a tenth of it
PRODUCT_ROWS, PRODUCT_SIDE = 16384, 4096
_WARM_UP, _LEAST_ROUNDS = 3, 5


def copy_gbps(
    provider: Provider,
    *,
    seconds: float = 1.0,
    size_bytes: int = COPY_BYTES,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[float]:
    """GB/s read and written together, one rate for each round within `seconds`."""
    length = size_bytes // 4
    model = one_by_one("Neg", length=length, dtype=np.float32)
    rounds_ns = _rounds_ns(model, provider, (length,), (length,), np.float32, seconds=seconds, clock_ns=clock_ns)
    return [2 * 4 * length / spent_ns for spent_ns in rounds_ns]


def half_gflops(
    provider: Provider,
    *,
    seconds: float = 1.0,
    rows: int = PRODUCT_ROWS,
    side: int = PRODUCT_SIDE,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[float]:
    """10⁹ operations per second of a float16 product, one rate for each round within `seconds`."""
    weights = np.linspace(-1.0, 1.0, side * side, dtype=np.float32).astype(np.float16).reshape(side, side)
    model = one_product("MatMul", rows=rows, weights=weights, input_type=np.float16, output_type=np.float16)
    shape = (rows, side)
    rounds_ns = _rounds_ns(model, provider, shape, shape, np.float16, seconds=seconds, clock_ns=clock_ns)
    return [2 * rows * side * side / spent_ns for spent_ns in rounds_ns]


def _rounds_ns(
    model: bytes,
    provider: Provider,
    entering: tuple[int, ...],
    leaving: tuple[int, ...],
    dtype: npt.DTypeLike,
    *,
    seconds: float,
    clock_ns: Callable[[], int],
) -> list[int]:
    """How long each run took, until its end on the device: a run returns when the device is done."""
    try:
        session = ort.InferenceSession(
            model,
            sess_options=session_options(1, provider.session_config),
            providers=[(provider.name, dict(provider.options))],
            enable_fallback=False,
        )
        assert session.get_providers()[0] == provider.name, "whoever asks has opened a bundle there before"
        binding = session.io_binding()
        kind, place = np.dtype(dtype).type, (provider.device, provider.device_id)
        values = [ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, *place) for shape in (entering, leaving)]
        values[0].update_inplace(np.ones(entering, dtype))
        binding.bind_ortvalue_input("input", values[0])
        binding.bind_ortvalue_output("output", values[1])
        spent_ns: list[int] = []
        until_ns = clock_ns() + int(seconds * 1e9)
        while len(spent_ns) < _WARM_UP + _LEAST_ROUNDS or clock_ns() < until_ns:
            begun_ns = clock_ns()
            session.run_with_iobinding(binding)
            spent_ns.append(clock_ns() - begun_ns)
    except ORT_ERRORS as error:
        raise SessionError(
            f"the rates of {provider.name} could not be measured: {first_line(error)}",
            remedy="free memory of the device, or open the bundle with a smaller --max-context",
        ) from error
    return spent_ns[_WARM_UP:]
