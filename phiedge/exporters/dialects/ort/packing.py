"""The bytes of MatMulNBits weights.

B is uint8 [N, K / group_size, group_size * bits / 8]: codes are stored with an offset of 2^(bits-1), the operator's
default zero point, and within a byte the lower bits hold the earlier code. Scales are [N, K / group_size]. Source: the
operator's documentation in ONNX Runtime 1.31; the tests hold it against what ONNX Runtime computes.
"""

import numpy as np
from numpy.typing import NDArray

from phiedge.exporters.quantised import Float32, QuantisedWeight


def pack_matmul_nbits(weight: QuantisedWeight) -> tuple[NDArray[np.uint8], Float32]:
    """Return (B, scales) of a block of rows."""
    offset_codes = (weight.codes.astype(np.int16) + 2 ** (weight.bits - 1)).astype(np.uint8)
    groups = offset_codes.reshape(*weight.scales.shape, weight.group_size)
    if weight.bits == 8:
        return groups, weight.scales
    return groups[..., 0::2] | (groups[..., 1::2] << 4), weight.scales
