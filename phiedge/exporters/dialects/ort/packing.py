"""The bytes of MatMulNBits weights.

B is uint8 [N, K / group_size, group_size * bits / 8]: codes are stored with an offset of 2^(bits-1), the operator's
default zero point, and within a byte the lower bits hold the earlier code, which is how `QuantisedWeight` has them.
Scales are [N, K / group_size]. Source: the operator's documentation in ONNX Runtime 1.31; the tests hold it against
what ONNX Runtime computes.
"""

import numpy as np
from numpy.typing import NDArray

from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.values import Float32


def pack_matmul_nbits(weight: QuantisedWeight) -> tuple[NDArray[np.uint8], Float32]:
    """Return (B, scales) of a block of rows."""
    return weight.packed.reshape(*weight.scales.shape, -1), weight.scales
