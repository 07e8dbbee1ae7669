"""The bytes of INT4 weights for `DequantizeLinear`.

ONNX has int4 in two's complement, two in a byte, the earlier in the lower bits. `QuantisedWeight` has the same codes
plus 8 in the same places; adding 8 modulo 16 is turning over the highest bit of each.
"""

import numpy as np
from numpy.typing import NDArray

from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.values import Float32

HIGHEST_BITS = np.uint8(0x88)  # of both codes in a byte


def pack_int4(weight: QuantisedWeight) -> tuple[NDArray[np.uint8], Float32]:
    """Return (codes [n, K / 2], scales [n, K / group_size]) of a block of rows."""
    assert weight.bits == 4, weight.bits
    return weight.packed ^ HIGHEST_BITS, weight.scales


def pack_int4_float16(weight: QuantisedWeight) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """As `pack_int4`, for float16 activations, which want scales of their own type; every scale has one."""
    codes, scales = pack_int4(weight)
    return codes, scales.astype(np.float16)
