import threading
from collections.abc import Iterator

import numpy as np
import pytest

from phiedge.errors import InputError, UsageError
from phiedge.runtime.camera import LatestFrame

WAIT_S = 30


def frame(value: int, size: int = 2) -> np.ndarray:
    return np.full((size, size, 3), value, dtype=np.uint8)


class Camera:
    """Gives frames when it is told to."""

    def __init__(self) -> None:
        self.go, self.given = threading.Semaphore(0), threading.Semaphore(0)
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray]:
        for value in range(1000):
            assert self.go.acquire(timeout=WAIT_S)
            yield frame(value)
            self.given.release()

    def close(self) -> None:
        self.closed.set()

    def give(self, count: int) -> None:
        """Let it give so many, and wait until they came; the one after is asked for and not given."""
        for _ in range(count):
            self.go.release()
            assert self.given.acquire(timeout=WAIT_S)


def test_the_newest_frame_wins_and_stale_ones_are_counted() -> None:
    camera = Camera()
    with LatestFrame(camera) as frames:
        camera.give(5)
        taken = frames.take()
        assert (taken.number, taken.picture[0, 0, 0], frames.came, frames.dropped) == (4, 4, 5, 4)
        assert taken.age_ms() >= 0
        camera.give(1)
        assert frames.take().number == 5
        assert frames.dropped == 4
    camera.go.release()
    assert camera.closed.wait(WAIT_S), "and its source is closed"


def test_every_frame_is_taken_once_and_the_end_is_the_end() -> None:
    with LatestFrame(iter([frame(7)])) as frames:
        assert [taken.number for taken in frames] == [0]
        assert frames.take() is None


def test_frames_may_change_their_size() -> None:
    with LatestFrame(frame(0, size=size) for size in (2, 5)) as frames:
        sizes = [taken.picture.shape[0] for taken in frames]
    assert sizes[-1] == 5


def test_a_source_that_stalls_is_an_error_with_the_numbers() -> None:
    with LatestFrame(Camera(), stall_ms=5) as frames, pytest.raises(InputError, match="none for 5 ms, after 0 frames"):
        frames.take()


def test_what_a_source_raises_comes_after_its_last_frame() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield frame(1)
        raise OSError("unplugged")

    with LatestFrame(broken()) as frames:
        assert frames.take().number == 0
        with pytest.raises(OSError, match="unplugged"):
            frames.take()


def test_closing_lets_go_of_whoever_waits() -> None:
    camera, results = Camera(), []
    with LatestFrame(camera) as frames:
        waiter = threading.Thread(target=lambda: results.append(frames.take()))
        waiter.start()
        frames.close()
        waiter.join(WAIT_S)
    assert results == [None]


@pytest.mark.parametrize("stall_ms", [0, -1, float("nan"), float("inf")])
def test_a_stall_that_makes_no_sense_is_refused(stall_ms: float) -> None:
    with pytest.raises(UsageError, match="stall_ms"):
        LatestFrame([], stall_ms=stall_ms)
