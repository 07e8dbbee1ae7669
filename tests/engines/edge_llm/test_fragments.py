import numpy as np

from edge_exporter import RECORDED
from edgellm_stand_in import packed
from phiedge.engines.edge_llm.fragments import stored_shape, unpack_codes


def places(outputs: int, inputs: int) -> np.ndarray:
    n, k = np.indices((outputs, inputs))
    return (5 * n + 3 * k) % 16


def test_codes_that_the_exporter_packed_are_read_back() -> None:
    with np.load(RECORDED / "fragments.npz") as recorded:
        stored = recorded["stored"]
    assert stored.shape == stored_shape(192, 128)
    assert np.array_equal(unpack_codes(stored, 192, 128), places(192, 128) - 8)


def test_the_stand_in_packs_as_the_exporter_does() -> None:
    with np.load(RECORDED / "fragments.npz") as recorded:
        assert np.array_equal(packed(places(192, 128)).view(np.int8), recorded["stored"])
