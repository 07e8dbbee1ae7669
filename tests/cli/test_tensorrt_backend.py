"""What the verbs say of TensorRT's backends where they cannot run: on every machine that lacks a part of them."""

from pathlib import Path

import pytest

from command_lines import assert_refused
from phiedge.engines.tensorrt import driver

VERBS = pytest.mark.parametrize("words", [("run", "-p", "hello"), ("verify",), ("bench",)], ids=lambda words: words[0])


@VERBS
def test_a_missing_driver_is_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exported_bundle: Path,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(driver, "DRIVER", "libcuda.so.of-nobody")
    verb, *options = words
    told = assert_refused(capsys, verb, exported_bundle, *options, "--backend", "tensorrt-rtx")
    assert told.startswith("there is no NVIDIA driver: libcuda.so.of-nobody")


def test_a_backend_that_is_nearly_one_is_told_which(capsys: pytest.CaptureFixture[str], exported_bundle: Path) -> None:
    told = assert_refused(capsys, "run", exported_bundle, "-p", "hello", "--backend", "tensorrt_rtx", code=2)
    assert told == "there is no backend 'tensorrt_rtx'"
