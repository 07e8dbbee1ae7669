"""`phiedge devices list` and `phiedge devices show`."""

import json

import pytest

from phiedge.cli import main
from phiedge.devices import catalogue


def test_the_list_has_a_row_for_every_device_and_explains_its_marks(capsys):
    assert main(["devices", "list"]) == 0
    shown = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in shown.out.splitlines() if line.strip()}
    assert {device.name for device in catalogue()} <= set(rows)
    assert rows["rtx-4090"] == ["rtx-4090", "8.9", "24", "1008", "165.2", "660.6", "330.3", "-", "base", "fp8"]
    assert "85?" in rows["agx-orin-64"]
    words = " ".join(shown.out.split())
    assert "? not verified" in words
    assert "base = fp16, int8, int4" in words
    assert "orin=agx-orin-64" in words
    assert shown.err == ""


def test_the_list_stays_within_80_columns(capsys):
    main(["devices", "list"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_list_as_json_has_every_figure_with_its_source(capsys):
    assert main(["devices", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [device["name"] for device in listed["devices"]] == [device.name for device in catalogue()]
    assert listed["aliases"]["orin"] == "agx-orin-64"
    bandwidths = [device["bandwidth_gbps"] for device in listed["devices"] if device["name"] != "cpu"]
    assert all(figure["source"] and isinstance(figure["verified"], bool) for figure in bandwidths)


@pytest.mark.parametrize("name", [device.name for device in catalogue()])
def test_every_device_can_be_shown_with_a_number_for_every_source(capsys, name):
    assert main(["devices", "show", name]) == 0
    shown = capsys.readouterr().out
    assert name in shown
    numbers = [line.partition("]")[0] for line in shown.splitlines() if line.startswith("[")]
    assert numbers == [f"[{number}" for number in range(1, len(numbers) + 1)]
    assert numbers


def test_what_is_shown_of_orin_is_marked_where_it_is_not_verified(capsys):
    main(["devices", "show", "orin"])
    shown = capsys.readouterr().out
    assert "Jetson AGX Orin 64 GB  (agx-orin-64, orin, agx-orin)" in shown
    assert "204.8 GB/s" in shown
    assert "42.6 TFLOPS ?" in shown
    assert "? not verified" in shown
    assert "JetPack 7.2" in shown
    assert "https://developer.nvidia.com/embedded/jetson-modules" in shown


def test_a_device_whose_figures_are_all_verified_needs_no_legend(capsys):
    main(["devices", "show", "rtx-4090"])
    assert "not verified" not in capsys.readouterr().out


def test_one_device_as_json_carries_its_aliases(capsys):
    assert main(["devices", "show", "RTX", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "rtx-4090"
    assert shown["aliases"] == ["rtx"]
    assert shown["sm"]["value"] == "8.9"


def test_an_unknown_device_is_refused_with_the_nearest_names(capsys):
    assert main(["devices", "show", "agx-orin-46"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no device is called 'agx-orin-46'" in shown.err
    assert "agx-orin-64" in shown.err
    assert "phiedge devices list" in shown.err


def test_an_unknown_device_is_refused_in_json_too(capsys):
    assert main(["devices", "show", "orrin", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UnknownDeviceError"
    assert "orin" in error["remedy"]
