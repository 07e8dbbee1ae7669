"""`phiedge devices probe`, on recorded systems and on this machine."""

import json
from pathlib import Path

import pytest

from phiedge.cli import main
from recorded_trees import TREES, unpack


@pytest.mark.parametrize("tree", TREES)
def test_every_recorded_system_is_shown(tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "probe", "--sysroot", str(unpack(tree, tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split()[0] == "device"
    assert "measured" not in shown


def test_a_probe_as_json_has_null_for_what_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "probe", "--json", "--sysroot", str(unpack("orin-nx-16", tmp_path))]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["identity"]["device"] == "orin-nx-16"
    assert told["memory_clock"] is None
    assert told["measured"] is None
    assert told["jetson"]["power_mode"]["choices"][0] == {"number": 0, "name": "MAXN_SUPER"}


def test_this_machine_is_probed_without_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "probe", "--no-measure", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["memory"]["total_bytes"] > 0
    assert told["measured"] is None


def test_rates_of_the_processor_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("phiedge.cli.probe_table._SECONDS", 0.01)
    monkeypatch.setattr("phiedge.devices.read_bandwidth.DEFAULT_BYTES", 2**22)
    assert main(["devices", "probe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"]["read_gbps"]["best"] > 0


def test_a_tree_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "probe", "--sysroot", str(tmp_path / "missing")]) == 2
    assert "is not a directory" in capsys.readouterr().err
