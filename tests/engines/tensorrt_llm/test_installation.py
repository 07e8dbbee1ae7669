"""Which TensorRT-LLM is installed, and how it takes a model."""

from pathlib import Path

import pytest

from phiedge.engines.tensorrt_llm.installation import find_installation
from phiedge.errors import DeviceError
from trtllm_stand_in import ENGINE, pretend_installed


def test_none_is_installed_here() -> None:
    assert find_installation() is None


@pytest.mark.parametrize("version", ["0.12.0", "1.0.0", "1.2.1"])
def test_versions_that_build_engines(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_installed(monkeypatch, tmp_path, version, ENGINE)
    found = find_installation()
    assert found is not None
    assert (found.version, found.way, found.tool) == (version, "engine", tmp_path / "bin" / "trtllm-build")


@pytest.mark.parametrize("version", ["1.3.0rc20", "1.3.0", "2.0.1"])
def test_versions_that_load_checkpoints(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_installed(monkeypatch, tmp_path, version)
    found = find_installation()
    assert found is not None
    assert (found.version, found.way, found.tool) == (version, "load", None)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.11.0", "TensorRT-LLM 0.11.0 is too old: phiedge writes for 0.12 and later"),
        ("next", "TensorRT-LLM says that it is version 'next'"),
        ("1.2.1", "TensorRT-LLM 1.2.1 is installed, its tool trtllm-build is not on the path"),
    ],
)
def test_what_cannot_be_used_is_refused(
    version: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_installed(monkeypatch, tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=message):
        find_installation()
