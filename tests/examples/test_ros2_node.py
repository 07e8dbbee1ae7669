import runpy
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import phiedge
from phiedge.reference.scenes import draw_scene

EXAMPLE = Path(__file__).parents[2] / "examples" / "ros2_node.py"
WAIT_S = 120


def message(pixels: np.ndarray, encoding: str, *, padding: int = 0) -> SimpleNamespace:
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)))
    return SimpleNamespace(height=height, width=width, encoding=encoding, step=rows.shape[1], data=rows.tobytes())


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    assert "rclpy" not in sys.modules, "it must be readable without ROS 2"
    return runpy.run_path(str(EXAMPLE))


def test_messages_become_pictures_whatever_their_order_and_padding(example: dict[str, Any]) -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for padding in (0, 5):
        np.testing.assert_array_equal(example["picture_of"](message(pixels, "rgb8", padding=padding)), pixels)
        np.testing.assert_array_equal(
            example["picture_of"](message(pixels, "bgr8", padding=padding)), pixels[..., ::-1]
        )
    grey = example["picture_of"](message(pixels[..., 0], "mono8"))
    np.testing.assert_array_equal(grey, np.repeat(pixels[..., :1], 3, axis=2))


def test_an_encoding_that_is_not_known_is_refused(example: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the camera sends yuv422"):
        example["picture_of"](SimpleNamespace(encoding="yuv422"))


class Ros:
    """As much of ROS 2 as the node uses: it sends frames until there was an answer."""

    def __init__(self, frame: SimpleNamespace) -> None:
        self.frame, self.told, self.answered = frame, list[str](), threading.Event()
        self.calls: list[str] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rclpy, sensor, std = ModuleType("rclpy"), ModuleType("sensor_msgs.msg"), ModuleType("std_msgs.msg")
        rclpy.init, rclpy.create_node = lambda: self.calls.append("init"), lambda name: self
        rclpy.spin, rclpy.try_shutdown = self.spin, lambda: self.calls.append("shutdown")
        sensor.Image, std.String = object, SimpleNamespace
        for name, module in (("rclpy", rclpy), ("sensor_msgs.msg", sensor), ("std_msgs.msg", std)):
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("sensor_msgs", "std_msgs"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))

    def create_publisher(self, kind: object, topic: str, depth: int) -> "Ros":
        return self

    def create_subscription(self, kind: object, topic: str, callback: Any, depth: int) -> None:
        self.callback = callback

    def publish(self, text: SimpleNamespace) -> None:
        self.told.append(text.data)
        self.answered.set()

    def spin(self, node: object) -> None:
        for _ in range(3):
            self.callback(self.frame)
        assert self.answered.wait(WAIT_S)

    def destroy_node(self) -> None:
        self.calls.append("destroy")


def test_the_node_answers_about_what_its_camera_sends(
    example: dict[str, Any], exported_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ros = Ros(message(np.asarray(draw_scene(3, size=(256, 176), place="kiosk").picture), "rgb8"))
    ros.install(monkeypatch)
    example["main"](str(exported_bundle), budget=phiedge.Budget(deadline_ms=3_600_000, answer_tokens=8))
    assert ros.told[0].strip().isdigit()
    assert ros.calls == ["init", "destroy", "shutdown"]
