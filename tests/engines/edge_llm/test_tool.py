import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_exporter import StandIn
from phiedge.engines.edge_llm.tool import (
    READY,
    ExporterChoice,
    clean_environment,
    environment_path,
    find_exporter,
    make_environment,
    probe,
)
from phiedge.errors import ToolError

MakeStandIn = Callable[..., StandIn]


def test_a_named_environment_with_the_release_is_used(stand_in: MakeStandIn) -> None:
    made = stand_in()
    exporter = find_exporter(ExporterChoice(python=made.python))
    assert exporter.python == made.python
    assert exporter.versions["tensorrt-edgellm"] == "0.11.0"
    assert "numpy" in exporter.versions


@pytest.mark.parametrize(
    ("version", "told"),
    [(None, "has no tensorrt-edgellm"), ("0.10.1", "has tensorrt-edgellm 0.10.1, phiedge knows the graphs of 0.11.0")],
)
def test_an_environment_without_that_release_is_refused(stand_in: MakeStandIn, version: str | None, told: str) -> None:
    with pytest.raises(ToolError, match=told) as caught:
        probe(stand_in(version=version).python)
    assert "pip install 'tensorrt-edgellm[export]==0.11.0'" in str(caught.value.remedy)


def test_a_python_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be run: No such file"):
        probe(tmp_path / "python")


def test_nothing_is_downloaded_unless_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="is not installed in") as caught:
        find_exporter(ExporterChoice(tools=tmp_path))
    assert "--install-exporter" in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_was_made_before_is_found(stand_in: MakeStandIn, tmp_path: Path) -> None:
    home = environment_path(tmp_path)
    stand_in().path.rename(home)
    (home / "bin" / "python").write_text((home / "bin" / "python").read_text().replace("environment/", f"{home.name}/"))
    (home / READY).write_text("{}")
    assert find_exporter(ExporterChoice(tools=tmp_path)).python == home / "bin" / "python"


def test_wheels_that_lack_it_leave_no_environment_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], failed: str) -> None:
        asked.append(command)
        if "pip" in command:
            raise ToolError(f"{failed}: no matching distribution", remedy="another")

    monkeypatch.setattr("phiedge.engines.edge_llm.tool._run", run)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    home = tmp_path / "tools" / "environment"
    with pytest.raises(ToolError, match="could not be installed: no matching"):
        make_environment(home, wheels=wheels)
    assert not (home / READY).exists()
    assert asked[-1][-4:] == ["--no-index", "--find-links", str(wheels), "tensorrt-edgellm[export]==0.11.0"]


def test_an_environment_is_ready_when_all_of_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "environment"
    monkeypatch.setattr("phiedge.engines.edge_llm.tool._run", lambda command, failed: home.mkdir(exist_ok=True))
    (home / "left").mkdir(parents=True)
    make_environment(home, wheels=None)
    assert json.loads((home / READY).read_text())["offline"] is False
    assert not (home / "left").exists()


def test_too_little_disk_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiedge.engines.edge_llm.tool.NEEDED_BYTES", 10**18)
    with pytest.raises(ToolError, match="needs 1000000000.0 GB"):
        make_environment(tmp_path / "environment", wheels=None)
    assert not (tmp_path / "environment").exists()


def test_the_exporter_sees_no_gpu_no_network_and_no_packages_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = clean_environment()
    assert "PYTHONPATH" not in found
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["HF_HUB_OFFLINE"] == "1"
