"""A ROS 2 node that answers about the newest frame of a camera: `python examples/ros2_node.py BUNDLE "QUESTION"`.

It subscribes to `image` (sensor_msgs/Image: rgb8, bgr8 or mono8) and publishes to `answer` (std_msgs/String). The
session runs in a thread of its own: a callback that waited for an answer would hold up every timer of the node. Frames
that come meanwhile replace each other. rclpy comes with ROS 2 and is imported only when this runs.
"""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import phiedge
from phiedge.runtime.camera import Frame

BUDGET = phiedge.Budget(deadline_ms=2000, answer_tokens=8, on_infeasible="degrade")
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def picture_of(message: Any) -> npt.NDArray[np.uint8]:
    """An image message as [h, w, 3] uint8 RGB. Its rows may be longer than its pixels."""
    if message.encoding not in _CHANNELS:
        raise ValueError(f"the camera sends {message.encoding}; this takes {', '.join(_CHANNELS)}")
    channels = _CHANNELS[message.encoding]
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    if message.encoding == "mono8":
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., ::-1] if message.encoding == "bgr8" else pixels)


class Mailbox:
    """Frames from callbacks, for a thread to take: an iterator that ends when it is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: npt.NDArray[np.uint8] | None = None
        self._closed = False

    def put(self, frame: npt.NDArray[np.uint8]) -> None:
        with self._changed:
            self._frame = frame
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frame is not None or self._closed)
                frame, self._frame = self._frame, None
            if frame is None:
                return
            yield frame


def answer(session: phiedge.Session, question: str, frame: Frame, budget: phiedge.Budget) -> str | None:
    """The answer about a frame, by a deadline that counts from the frame; None where there is none."""
    assert budget.deadline_ms is not None
    left_ms = budget.deadline_ms - frame.age_ms()
    if left_ms <= 0:
        return None
    try:
        result = session.generate(
            question, images=[frame.picture], think="off", budget=replace(budget, deadline_ms=left_ms)
        )
    except phiedge.BudgetError:
        return None
    return result.answer


def main(bundle: str, question: str = "How many buttons are there?", budget: phiedge.Budget = BUDGET) -> None:
    import rclpy
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    rclpy.init()
    node = rclpy.create_node("phiedge")
    publisher = node.create_publisher(String, "answer", 1)
    mailbox = Mailbox()
    node.create_subscription(Image, "image", lambda message: mailbox.put(picture_of(message)), 1)

    def answer_frames() -> None:
        day_ms = 24 * 3600 * 1000.0  # a camera that is switched off is no error here
        with phiedge.LatestFrame(mailbox, stall_ms=day_ms) as frames:
            for frame in frames:
                told = answer(session, question, frame, budget)
                if told is not None:
                    publisher.publish(String(data=told))

    with phiedge.Session.open(bundle) as session:
        thread = threading.Thread(target=answer_frames, name="answers")
        thread.start()
        try:
            rclpy.spin(node)
        finally:
            mailbox.close()
            thread.join()
            node.destroy_node()
            rclpy.try_shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:3])
