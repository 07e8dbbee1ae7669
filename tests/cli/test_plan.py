"""`phiedge plan`."""

import json
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.cli import main
from phiedge.devices import catalogue
from phiedge.devices.memory_limits import MemoryLimit
from phiedge.devices.planning.sampled import SampledTimes
from phiedge.engines.machine_rates import MachineRates, MeasuredRate
from published import PUBLISHED_CONFIG


def test_all_devices_stand_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    shown = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in shown.out.splitlines() if line.strip()}
    assert {device.name for device in catalogue() if device.sm is not None} <= set(rows)
    assert rows["orin-nano-8"][3] == "no"
    assert rows["agx-orin-64"][3] == "yes"
    assert shown.err == ""


def test_one_device_is_told_with_its_evidence_and_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-t", "orin", "--deadline-ms", "4500"]) == 0
    shown = capsys.readouterr().out
    assert "compiled engines on agx-orin-64" in shown
    assert "TensorRT Edge-LLM 0.10" in shown
    assert "deadline of 4.50 s: unlikely" in shown
    assert "pictures of at most" in shown


def test_a_plan_without_pictures_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-t", "orin", "--image", "none"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("no pictures, 512 tokens of text")


def test_a_plan_as_json_has_bytes_milliseconds_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "-t", "rtx-4090", "--precision", "fp8", "--image", "1280x720", "--image", "512x512", "--json"]
    assert main([*words, "--deadline-ms", "100"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["request"]["visual_tokens"] == [3600, 1024]
    assert told["verdict"] == "impossible"
    assert told["memory"]["fits"] is True
    assert told["time"]["total"]["limit_ms"] < told["time"]["total"]["planned_ms"]
    assert told["efficiency"]["tokens"]["rows"][0]["url"].startswith("https://")
    assert told["feasible"] is False


def test_devices_that_do_not_compute_with_a_precision_are_left_out_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--precision", "nvfp4", "--json"]) == 0
    shown = capsys.readouterr()
    assert {plan["device"] for plan in json.loads(shown.out)["plans"]} >= {"thor-t5000", "rtx-5090"}
    assert "agx-orin-64" in shown.err


def test_a_bundle_is_planned_as_it_is(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "-t", "orin", "--bundle", str(tiny_bundle.path), "--image", "none"]
    assert main([*words, "--prompt-tokens", "20", "--answer-tokens", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["precision"] == tiny_bundle.manifest.precision.name
    assert told["request"]["visual_tokens"] == []
    assert told["time"]["vision"]["planned_ms"] == 0


SAMPLED = SampledTimes(
    token_ms=((64, 200.0), (1600, 240.0)),
    chunk_ms=((256, 10_000.0),),
    past_ms=((0, 0.0),),
    picture_ms=((256, 500.0), (1024, 3000.0)),
    layers=2,
    error=0.25,
)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(value: float) -> MeasuredRate:
        return MeasuredRate(best=value, median=value, rounds=1)

    found = MachineRates(
        threads=2, float_type="float32", read_gbps=rate(68), float_gflops=rate(440), int8_gops=rate(1700)
    )
    monkeypatch.setattr("phiedge.cli.probe_table.measure_processor", lambda: found)


def test_this_machine_is_measured_and_sampled(
    rates: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, int]] = []

    class Sample:
        def __init__(self, facts: object, precision: object, *, positions: int, patches: int, threads: int) -> None:
            asked.append((positions, patches))

        def times(self, progress: object) -> SampledTimes:
            return SAMPLED

    monkeypatch.setattr("phiedge.engines.onnxruntime.sample.sampling.ModelSample", Sample)
    assert main(["plan", "-t", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert asked == [(1024 + 512 + 64, 1024)]
    assert told["time"]["token"]["limit_ms"] == pytest.approx(1000 * (7.77 + 0.64) / 68, rel=0.05)
    assert told["time"]["vision"]["planned_ms"] == 3000
    assert told["time"]["prefill"]["planned_ms"] == 60_000
    assert told["sampled"]["layers"] == 2
    assert main(["plan", "-t", "cpu"]) == 0
    assert "2 of 40 layers of this shape ran here; up to 25% more or less is expected" in capsys.readouterr().out


def test_a_machine_with_little_memory_is_planned_by_its_limits(
    rates: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = MemoryLimit(bytes=10**9, by="the machine")
    monkeypatch.setattr("phiedge.cli.plan_here.available_memory", lambda: limit)
    assert main(["plan", "-t", "cpu", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["sampled"] is None
    assert "a sample of the model takes" in shown.err
    assert "1.0 GB are free" in shown.err


def test_a_busy_machine_is_planned_as_it_is_and_that_is_said(
    rates: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("phiedge.cli.plan_here.available_memory", lambda: MemoryLimit(bytes=10**9, by="the machine"))
    for load, told in ((7.25, True), (0.1, False)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load))
        assert main(["plan", "-t", "cpu", "--deadline-ms", "1"]) == 0
        shown = capsys.readouterr()
        assert ("this machine is busy (load 7.2 on" in shown.err) == told
        assert "impossible, this machine was not that fast when it was measured" in shown.out


def test_the_plan_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.svg"
    assert main(["plan", "-t", "thor", "--deadline-ms", "3000", "--plot", str(picture)]) == 0
    assert "deadline" in picture.read_text()
    assert list(tmp_path.iterdir()) == [picture]
    assert f"drawn to {picture}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["-t", "orrin"], 2, "no device is called 'orrin'"),
        (["--precision", "int3"], 2, "unknown precision 'int3'"),
        (["-t", "orin", "--precision", "fp8"], 1, "agx-orin-64 does not compute with fp8"),
        (["-t", "cpu", "--precision", "int8"], 1, "cannot be planned for a processor"),
        (["-t", "orin", "--precision", "fp32"], 1, "computes fp32 with no engine"),
        (["--precision", "fp32"], 2, "no device computes with fp32"),
        (["--image", "big"], 2, "'big' is not the size of a picture"),
        (["--prompt-tokens", "0"], 2, "--prompt-tokens must be from 1"),
        (["--answer-tokens", "-5"], 2, "--answer-tokens must be from 1"),
        (["--deadline-ms", "-1"], 2, "--deadline-ms must be a number above 0"),
        (["--deadline-ms", "nan"], 2, "--deadline-ms must be a number above 0"),
        (["--max-context", "0"], 2, "--max-context must be at least 1"),
        (["--max-context", "1000"], 1, "the context has 1000"),
        (["--max-context", "99999"], 1, "has 32768"),
        (["--plot", "plan.svg"], 2, "--plot draws one device"),
        (["-t", "orin", "--plot", "plan.txt"], 2, "does not end as a picture does"),
        (["--bundle", "missing"], 1, "missing"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    words: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == code
    shown = capsys.readouterr()
    assert complaint in shown.err
    assert shown.out == ""


def test_a_bundle_has_its_precision_already(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--bundle", str(tiny_bundle.path), "--precision", "int4"]) == 2
    assert "a bundle has its precision already" in capsys.readouterr().err


def test_an_export_asks_the_plan_first_and_writes_nothing_for_a_board_that_is_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    output = tmp_path / "bundle"
    assert main(["export", "-t", "orin-nano", "-m", str(tmp_path), "--random-weights", "-o", str(output)]) == 1
    shown = capsys.readouterr()
    assert "orin-nano-8 has 8.0 GB" in shown.err
    assert "--target agx-orin-64" in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_cache_in_int8_takes_half_of_one_in_float16_and_is_for_no_jetson(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for cache in ("float", "int8"):
        assert main(["plan", "-t", "rtx-4090", "--kv-cache", cache, "--json"]) == 0
        told[cache] = json.loads(capsys.readouterr().out)
    assert (told["float"]["cache_bits"], told["int8"]["cache_bits"]) == (16, 8)
    assert told["float"]["memory"]["cache_bytes"] == 2 * told["int8"]["memory"]["cache_bytes"]
    assert main(["plan", "-t", "orin", "--kv-cache", "int8"]) == 1
    assert "runs TensorRT, whose cache is float16" in capsys.readouterr().err


def test_a_cache_that_does_not_exist_or_that_a_bundle_has_is_refused(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--kv-cache", "int5"]) == 2
    assert "there is no cache 'int5'" in capsys.readouterr().err
    assert main(["plan", "-t", "orin", "--bundle", str(tiny_bundle.path), "--kv-cache", "int8"]) == 2
    assert "a bundle has its cache already" in capsys.readouterr().err
