"""Rotary position tables, computed as the publisher's model computes them, and to the last bit the same everywhere."""

import numpy as np
from numpy.typing import NDArray


def rotary_tables(head_dim: int, theta: float, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cos and sin, each [positions, head_dim / 2], of position * theta^(-2i / head_dim).

    The publisher's code rounds frequencies and angles to float32, and the model was trained with those: at position
    32767 a float64 angle would differ by up to a millirad. So the angles are float32 here too. The power, cosine and
    sine are taken in float64 and rounded once, because float32 forms of them differ between CPUs.
    """
    frequencies = (float(theta) ** -(np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)
    angles = (np.arange(positions, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
