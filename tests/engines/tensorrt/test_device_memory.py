import pytest

from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES, LineCopy, aligned

COPY = {"source": 0, "source_pitch_bytes": 16, "target": 4096, "target_pitch_bytes": 32, "line_bytes": 16, "lines": 2}


@pytest.mark.parametrize(("size_bytes", "wanted"), [(0, 0), (1, 256), (256, 256), (257, 512)])
def test_sizes_are_rounded_up_to_what_tensorrt_asks_of_addresses(size_bytes: int, wanted: int) -> None:
    assert aligned(size_bytes) == wanted
    assert wanted % ALIGNMENT_BYTES == 0


def test_lines_that_touch_are_a_copy() -> None:
    assert LineCopy(**COPY).lines == 2


@pytest.mark.parametrize("change", [{"line_bytes": 17}, {"line_bytes": 0}, {"lines": 0}, {"target_pitch_bytes": 8}])
def test_lines_that_overlap_and_copies_of_nothing_are_not(change: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        LineCopy(**COPY | change)
