import numpy as np

from phiedge.exporters.rotary import rotary_tables


def test_the_tables_are_cosines_and_sines_of_float32_angles() -> None:
    cos, sin = rotary_tables(128, 500_000.0, 32768)
    assert cos.shape == sin.shape == (32768, 64)
    assert cos.dtype == sin.dtype == np.float32
    for i in (0, 1, 31, 63):
        frequency = np.float32(500_000.0 ** -(2 * i / 128))
        for position in (0, 1, 4097, 32767):
            angle = np.float64(np.float32(position) * frequency)
            assert cos[position, i] == np.float32(np.cos(angle))
            assert sin[position, i] == np.float32(np.sin(angle))


def test_the_first_position_is_not_rotated() -> None:
    cos, sin = rotary_tables(16, 500_000.0, 4)
    assert (cos[0] == 1).all()
    assert (sin[0] == 0).all()
