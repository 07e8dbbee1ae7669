"""Random numbers that are a function of a seed, a tensor's name and a place in it, and are made at the speed of memory.

They come in tiles of 65 536 elements. A tile is a stretch of one pool of normal numbers, with its signs and the lower
bits of its mantissas flipped by a stretch of a second pool; where the two stretches begin is a hash of the seed, the
name and the tile's number. So any part of a tensor can be made at any time, in any order and by any thread, and it is
always the same. Everything is integer arithmetic or a single exact rounding: the bytes do not depend on the machine.

This is for weights that stand in for trained ones. It is not a source of good random numbers.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]  # bfloat16 as its 16 bits
Float32 = NDArray[np.float32]

TILE_ELEMENTS = 1 << 16  # 128 kB of bfloat16: in the second cache while it is made, and few enough calls
_POOL_STARTS = 1 << 20
_POOL_ELEMENTS = _POOL_STARTS + TILE_ELEMENTS
# What the second pool may flip: the sign and the lower 5 of 7 bits of the mantissa, which are close to even anyway.
_FLIPPED = np.uint16(0x801F)
_SUMMED = 12  # uniform numbers of 16 bits per normal one; their sum has the variance 2^32

_GOLDEN, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class RandomValues:
    """The random numbers of one seed. `normal` may be called from several threads."""

    def __init__(self, seed: int) -> None:
        assert seed >= 0, "a seed is a whole number from 0 on"
        self._seed = seed
        self._normal = _normal_pool(_key(seed, "normal"))
        self._flips = _uniform16(_key(seed, "flips"), _POOL_ELEMENTS) & _FLIPPED
        self._scaled: dict[float, Bits] = {}

    def normal(self, name: str, start: int, out: Bits, *, std: float) -> None:
        """Fill `out` with the elements from `start` on of the tensor `name`, roughly normal around 0, as bfloat16.

        `start` counts the tensor's elements, row-major. No value is 0, infinite or NaN.
        """
        pool = self._pool(std)
        first, stop = start // TILE_ELEMENTS, -(-(start + out.size) // TILE_ELEMENTS)
        hashes = _hash(_key(self._seed, name), np.arange(first, stop, dtype=np.uint64))
        starts = (hashes % np.uint64(_POOL_STARTS)).tolist()
        flips = (hashes >> np.uint64(40)).astype(np.uint64) % np.uint64(_POOL_STARTS)
        for tile, normal_at, flip_at in zip(range(first, stop), starts, flips.tolist(), strict=True):
            begin = tile * TILE_ELEMENTS - start  # where the tile begins in `out`; before 0 if `start` lies inside it
            low, high = max(begin, 0), min(begin + TILE_ELEMENTS, out.size)
            np.bitwise_xor(
                pool[normal_at + low - begin : normal_at + high - begin],
                self._flips[flip_at + low - begin : flip_at + high - begin],
                out=out[low:high],
            )

    def _pool(self, std: float) -> Bits:
        pool = self._scaled.get(std)
        if pool is None:  # two threads may both make it; it is the same
            pool = self._scaled[std] = to_bfloat16(self._normal * np.float32(std))
        return pool


def to_bfloat16(values: Float32) -> Bits:
    """The nearest bfloat16 of finite numbers, as its bits; ties to even."""
    bits = values.view(np.uint32)
    rounded: Bits = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(
        np.uint16
    )
    return rounded


def _key(seed: int, name: str) -> np.uint64:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def _hash(key: np.uint64, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 at the given steps from `key` (Steele, Lea, Flood, OOPSLA 2014)."""
    state = key + (counters + np.uint64(1)) * _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def _uniform16(key: np.uint64, count: int) -> NDArray[np.uint16]:
    words = _hash(key, np.arange(-(-count // 4), dtype=np.uint64))
    return words.astype("<u8").view("<u2")[:count].astype(np.uint16)


def _normal_pool(key: np.uint64) -> Float32:
    """Sums of uniform numbers, moved to lie around 0 and never on it; exact in float32."""
    uniform = _uniform16(key, _SUMMED * _POOL_ELEMENTS).reshape(_SUMMED, _POOL_ELEMENTS)
    sums = uniform.sum(axis=0, dtype=np.int32)
    doubled = 2 * sums - _SUMMED * 0xFFFF + 1  # odd
    normal: Float32 = doubled.astype(np.float32) * np.float32(2.0**-17)
    return normal
