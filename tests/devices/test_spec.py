"""What a device record refuses about itself."""

import json

import pytest

from phiedge.devices import Device, Figure, Source, describe, find
from phiedge.errors import DeviceError

PAGE = Source(name="page", title="A page", url="https://example.org/page")


def figure(value):
    return Figure(value=value, source=PAGE, verified=True)


def gpu(**changes):
    return Device(
        **{
            "name": "some-gpu",
            "title": "Some GPU",
            "kind": "rtx",
            "memory_kind": "discrete",
            "sm": figure("8.9"),
            "memory_bytes": figure(24 * 2**30),
            "bandwidth_gbps": figure(1008.0),
            "precisions": figure(("fp16", "int8", "int4", "fp8")),
        }
        | changes
    )


def test_a_gpu_with_its_three_figures_is_accepted():
    assert gpu().supports("fp8")
    assert not gpu().supports("nvfp4")


@pytest.mark.parametrize(("name", "number"), [("orin", 87), ("rtx-4090", 89), ("rtx-5090", 120), ("cpu", None)])
def test_the_sm_number_is_what_engines_are_named_by(name, number):
    assert find(name).sm_number == number


@pytest.mark.parametrize("missing", ["sm", "memory_bytes", "bandwidth_gbps"])
def test_a_gpu_without_a_needed_figure_is_refused(missing):
    with pytest.raises(DeviceError, match=missing):
        gpu(**{missing: None})


@pytest.mark.parametrize("sm", ["87", "sm_87", "8.75", ""])
def test_an_sm_that_is_not_major_dot_minor_is_refused(sm):
    with pytest.raises(DeviceError):
        gpu(sm=figure(sm))


@pytest.mark.parametrize("name", ["Orin", "orin_64", "orin-", "-orin", "orin 64", ""])
def test_a_name_that_cannot_be_typed_the_same_everywhere_is_refused(name):
    with pytest.raises(DeviceError, match="lower-case"):
        gpu(name=name)


@pytest.mark.parametrize(
    "changes", [{"kind": "tpu"}, {"memory_kind": "shared"}, {"precisions": figure(("fp16", "int3"))}]
)
def test_a_word_outside_the_vocabulary_is_refused(changes):
    with pytest.raises(DeviceError):
        gpu(**changes)


def test_a_rate_for_a_precision_that_is_not_listed_is_refused():
    with pytest.raises(DeviceError, match="nvfp4"):
        gpu(dense_nvfp4_tflops=figure(100.0))


@pytest.mark.parametrize("value", [0, -1, 0.0, "", ()])
def test_a_figure_that_says_nothing_is_refused(value):
    with pytest.raises(DeviceError):
        figure(value)


def test_a_source_without_a_title_is_refused():
    with pytest.raises(DeviceError, match="title"):
        Source(name="page", title="", url=None)


def test_the_cpu_makes_no_claim_about_a_machine_it_does_not_know():
    with pytest.raises(DeviceError, match="bandwidth_gbps"):
        Device(
            name="cpu",
            title="CPU",
            kind="cpu",
            memory_kind="unified",
            precisions=figure(("int4",)),
            bandwidth_gbps=figure(20.0),
        )


def test_a_description_is_json_with_the_source_of_every_figure():
    described = json.loads(json.dumps(describe(find("orin"))))
    assert described["name"] == "agx-orin-64"
    assert described["bandwidth_gbps"]["value"] == 204.8
    assert described["bandwidth_gbps"]["url"].startswith("https://developer.nvidia.com/")
    assert described["dense_fp8_tflops"] is None
    assert described["precisions"]["value"] == ["fp16", "int8", "int4"]
    assert [stack["name"] for stack in described["stacks"]] == ["jetpack-6-2", "jetpack-7-2"]
    assert described["stacks"][1]["cuda"] == "13.2"
