"""The scales of what goes into the linears of a vision graph in 8 bits: constants, found by calibration.

They are normal float16 numbers, so that every engine divides by the same number, whatever it computes in.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from phiedge.errors import ExportError
from phiedge.exporters.input_scales import check_scales_are_of
from phiedge.exporters.precision import VisionLinears

LARGEST: Mapping[VisionLinears, float] = {"int8": 127.0, "float8": 448.0}
SMALLEST_SCALE, LARGEST_FLOAT16 = 2.0**-14, 65504.0


def check_vision_scales(wanted: Sequence[str], given: Mapping[str, float]) -> None:
    """Each of the linears `wanted` must have the scale of its input, and nothing else. Raises `ExportError`."""
    check_scales_are_of(wanted, given, who="8 bits want", where="the vision graph", else_="--vision-precision float")
    for name in wanted:
        if not SMALLEST_SCALE <= given[name] <= LARGEST_FLOAT16 or float(np.float16(given[name])) != given[name]:
            raise ExportError(
                f"the scale of the input of {name} is {given[name]:g}, wanted is a normal float16 number",
                remedy="calibrate again on other pictures, or use --vision-precision float",
            )
