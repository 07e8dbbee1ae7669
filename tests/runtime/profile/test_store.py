import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.errors import BundleError, SchemaError
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.profile.identity import Identity, identity_here
from phiedge.runtime.profile.store import Fit, Profile, profile_for, read_profile, write_profile
from timed_engines import latency_model


@pytest.fixture
def bundle(oracle_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(oracle_bundle.path, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def model(oracle_bundle: Bundle) -> LoadedModel:
    return LoadedModel(oracle_bundle, max_context=None, threads=1, chunk_tokens=16)


@pytest.fixture
def here(bundle: Bundle, model: LoadedModel) -> Identity:
    return identity_here(bundle, model, threads=1)


def profile(identity: Identity) -> Profile:
    fit = Fit(
        requests=3, median_error=0.01, p95_error=0.1, median_error_as_forecast=0.01, p95_error_as_forecast=0.1,
        within=1.0,
    )  # fmt: skip
    return Profile(identity=identity, model=latency_model(), fit=fit, seconds=1.0, load_average=(0.0, 0.1))


def test_a_profile_of_this_machine_is_found_again(bundle: Bundle, model: LoadedModel, here: Identity) -> None:
    path = write_profile(bundle, profile(here))
    assert path.is_relative_to(bundle.path / "profiles")
    assert read_profile(path) == profile(here)
    found = profile_for(bundle, model, threads=1)
    assert isinstance(found, Profile)
    assert found.model == latency_model()
    assert bundle.check_files() == []


def test_without_one_it_is_said(bundle: Bundle, model: LoadedModel) -> None:
    assert profile_for(bundle, model, threads=1) == "the bundle has no latency profile of this machine"


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("machine", "processor", "processor Other, here "),
        ("machine", "power mode", "power mode Other, here "),
        ("machine", "clock governor", "clock governor Other, here "),
        ("versions", "onnxruntime", "onnxruntime Other, here "),
        ("settings", "threads", "threads Other, here 1"),
        ("graphs", "decoder.data", "decoder.data Other, here "),
    ],
)
def test_a_profile_of_something_else_is_not_used(
    bundle, model, here: Identity, kind: str, name: str, told: str
) -> None:
    assert name in getattr(here, kind)
    other = replace(here, **{kind: {**getattr(here, kind), name: "Other"}})
    write_profile(bundle, profile(other))
    found = profile_for(bundle, model, threads=1)
    assert isinstance(found, str)
    assert told in found


def test_an_engine_that_was_built_later_makes_another_profile_necessary(bundle, model, here: Identity) -> None:
    write_profile(bundle, profile(here))
    for name in ("onnxruntime-cpu", "tensorrt-sm87"):
        (bundle.path / "engines" / name).mkdir(parents=True)
        (bundle.path / "engines" / name / "engine.json").write_text("{}")
    found = profile_for(bundle, model, threads=1)
    assert isinstance(found, str)
    assert "engines/onnxruntime-cpu nothing, here " in found
    assert "tensorrt" not in found


def test_a_profile_that_was_copied_under_this_machines_name_is_not_used(bundle, model, here: Identity) -> None:
    path = write_profile(bundle, profile(here))
    other = replace(here, machine={**here.machine, "processor": "Other"})
    write_profile(bundle, profile(other)).replace(path)
    assert "its profile was moved: processor Other" in profile_for(bundle, model, threads=1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"schema_version": 99}, SchemaError, "schema 99"),
        ({"extra": 1}, BundleError, "unknown key 'extra'"),
        ({"seconds": "long"}, BundleError, "seconds"),
    ],
)
def test_a_profile_that_does_not_read_is_refused(bundle, model, here, change: dict, error: type, message: str) -> None:
    path = write_profile(bundle, profile(here))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message) as refused:
        profile_for(bundle, model, threads=1)
    assert "phiedge profile" in refused.value.remedy


def test_a_model_with_a_negative_coefficient_is_refused(bundle, model, here: Identity) -> None:
    path = write_profile(bundle, profile(here))
    stored = json.loads(path.read_text())
    stored["model"]["step"]["coefficients"] = [-1.0, 0.0]
    path.write_text(json.dumps(stored))
    with pytest.raises(BundleError, match="negative"):
        profile_for(bundle, model, threads=1)


def test_half_a_file_is_refused(bundle, model, here: Identity) -> None:
    path = write_profile(bundle, profile(here))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match="not JSON"):
        profile_for(bundle, model, threads=1)


def test_a_board_a_gpu_and_a_power_mode_are_read_where_they_are(bundle, model, tmp_path: Path) -> None:
    for name, text in (
        ("proc/device-tree/model", "NVIDIA Jetson AGX Orin\0"),
        ("var/lib/nvpmodel/status", "pmode:0002\n"),
        ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA RTX 4090\nIRQ: 1\n"),
        ("proc/driver/nvidia/version", "NVRM version: 540.4.0\nGCC version: 11\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ("sys/class/devfreq/17000000.gpu/max_freq", "1300500000\n"),
        ("sys/class/devfreq/17000000.gpu/governor", "nvhost_podgov\n"),
    ):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = identity_here(bundle, model, threads=1, root=tmp_path / "root")
    machine = found.machine
    assert machine["GPU clocks"] == "unknown 1300500000 nvhost_podgov"
    assert found.versions["GPU driver"] == "NVRM version: 540.4.0"
    assert machine["board"] == "NVIDIA Jetson AGX Orin"
    assert machine["power mode"] == "pmode:0002"
    assert machine["GPUs"] == "NVIDIA RTX 4090"
    assert (machine["clock governor"], machine["highest clock kHz"]) == ("performance", "unknown")
