"""The catalogue as shipped, how devices are found in it, and what its schema refuses."""

import copy
import subprocess
import sys

import pytest

from phiedge.devices import aliases, catalogue, find
from phiedge.devices.catalogue import CATALOGUE, parse, tomllib
from phiedge.errors import DeviceError, UnknownDeviceError

# Every target that the project promises; a row that disappears from the catalogue is a broken promise.
TARGETS = {
    *("agx-orin-64", "agx-orin-32", "orin-nx-16", "orin-nx-8", "orin-nano-8", "thor-t5000", "thor-t4000", "dgx-spark"),
    *("rtx-3060", "rtx-3090", "rtx-4060-ti-16", "rtx-4070", "rtx-4080", "rtx-4090", "rtx-a2000-12", "rtx-a4000"),
    *("rtx-a6000", "rtx-2000-ada", "rtx-4000-sff-ada", "rtx-6000-ada", "rtx-5060-ti-16", "rtx-5070-ti", "rtx-5080"),
    *("rtx-5090", "rtx-pro-6000", "rtx-4090-laptop", "rtx-5090-laptop", "cpu"),
}


@pytest.fixture
def document():
    """The shipped catalogue before parsing, for a test to break."""
    return copy.deepcopy(tomllib.loads(CATALOGUE.read_text(encoding="utf-8")))


def test_every_promised_target_is_there_once():
    names = [device.name for device in catalogue()]
    assert sorted(names) == sorted(TARGETS)


def test_every_figure_names_where_it_comes_from():
    for device in catalogue():
        for key, figure in device.figures().items():
            assert figure.source.title, f"{device.name}.{key}"
            if figure.verified:
                assert figure.source.url or device.kind == "cpu", f"{device.name}.{key} is verified against no page"


def test_no_recollection_is_called_verified():
    recalled = [
        f"{device.name}.{key}"
        for device in catalogue()
        for key, figure in device.figures().items()
        if figure.verified and "recalled" in figure.source.title
    ]
    assert recalled == []


def test_what_was_looked_up_for_orin_is_what_the_catalogue_says():
    orin = find("agx-orin-64")
    assert (orin.kind, orin.memory_kind) == ("jetson", "unified")
    assert orin.sm is not None
    assert orin.sm.value == "8.7"
    assert orin.bandwidth_gbps is not None
    assert orin.bandwidth_gbps.value == 204.8
    assert orin.memory_bytes is not None
    assert orin.memory_bytes.value == 64 * 2**30
    assert orin.visible_bytes is not None
    assert orin.visible_bytes.value < orin.memory_bytes.value
    assert orin.precisions.value == ("fp16", "int8", "int4")


@pytest.mark.parametrize("device", [device for device in catalogue() if device.sm], ids=lambda device: device.name)
def test_precisions_follow_the_generation_of_the_gpu(device):
    generation = float(device.sm.value)
    assert device.supports("fp8") == (generation >= 8.9)
    assert device.supports("nvfp4") == (generation >= 10.0)
    assert all(device.supports(precision) for precision in ("fp16", "int8", "int4"))


def test_the_cpu_has_no_figures_but_its_precisions():
    assert set(find("cpu").figures()) == {"precisions"}


@pytest.mark.parametrize(
    ("alias", "name"), [("orin", "agx-orin-64"), ("rtx", "rtx-4090"), ("thor", "thor-t5000"), ("spark", "dgx-spark")]
)
def test_an_alias_finds_its_device(alias, name):
    assert find(alias).name == name


def test_a_name_is_found_whatever_its_case_and_the_spaces_around_it():
    assert find(" AGX-Orin-64 ").name == "agx-orin-64"


@pytest.mark.parametrize(
    ("wrong", "meant"), [("agx-orin-46", "agx-orin-64"), ("rtx4090", "rtx-4090"), ("orinn", "orin")]
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(wrong, meant):
    with pytest.raises(UnknownDeviceError) as refused:
        find(wrong)
    assert wrong in refused.value.message
    assert meant in refused.value.remedy
    assert "phiedge devices list" in refused.value.remedy
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("wrong", ["", "zzzzzz", "../etc"])
def test_a_name_like_no_other_is_refused_without_a_guess(wrong):
    with pytest.raises(UnknownDeviceError) as refused:
        find(wrong)
    assert "did you mean" not in refused.value.remedy


def test_the_aliases_handed_out_are_a_copy():
    aliases()["orin"] = "rtx-4090"
    assert find("orin").name == "agx-orin-64"


@pytest.mark.parametrize("key", ["source", "verified", "value"])
def test_a_figure_without_its_source_value_or_mark_is_refused(document, key):
    del document["devices"]["rtx-4090"]["bandwidth_gbps"][key]
    with pytest.raises(DeviceError, match=rf"rtx-4090\.bandwidth_gbps\.{key} is missing"):
        parse(document)


def test_a_figure_that_is_only_a_number_is_refused(document):
    document["devices"]["rtx-4090"]["bandwidth_gbps"] = 1008
    with pytest.raises(DeviceError, match="bandwidth_gbps"):
        parse(document)


def test_a_source_that_was_not_declared_is_refused(document):
    document["devices"]["rtx-4090"]["bandwidth_gbps"]["source"] = "hearsay"
    with pytest.raises(DeviceError, match="hearsay"):
        parse(document)


@pytest.mark.parametrize("value", ["1008", True, [1008]])
def test_a_rate_that_is_not_a_number_is_refused(document, value):
    document["devices"]["rtx-4090"]["bandwidth_gbps"]["value"] = value
    with pytest.raises(DeviceError, match="a number"):
        parse(document)


def test_a_size_that_is_not_whole_bytes_is_refused(document):
    document["devices"]["rtx-4090"]["memory_bytes"]["value"] = 24.0
    with pytest.raises(DeviceError, match="a whole number"):
        parse(document)


def test_a_key_that_the_schema_does_not_know_is_refused(document):
    document["devices"]["rtx-4090"]["bandwith_gbps"] = document["devices"]["rtx-4090"]["bandwidth_gbps"]
    with pytest.raises(DeviceError, match="bandwith_gbps is not a key"):
        parse(document)


@pytest.mark.parametrize(("alias", "target"), [("mine", "rtx-9090"), ("rtx-3060", "rtx-4090")])
def test_an_alias_that_leads_nowhere_or_hides_a_device_is_refused(document, alias, target):
    document["aliases"][alias] = target
    with pytest.raises(DeviceError, match=alias):
        parse(document)


def test_a_stack_that_was_not_declared_is_refused(document):
    document["devices"]["rtx-4090"]["stacks"] = ["jetpack-99"]
    with pytest.raises(DeviceError, match="jetpack-99"):
        parse(document)


def test_another_schema_version_is_refused(document):
    document["schema_version"] = 2
    with pytest.raises(DeviceError, match="schema_version"):
        parse(document)


def test_finding_a_device_imports_nothing_heavy():
    script = "import sys; from phiedge.devices import find; find('orin'); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "torch", "onnx", "onnxruntime", "transformers", "PIL", "rich", "typer"}
    assert heavy.isdisjoint(loaded)
