import shutil
from pathlib import Path

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle
from phiedge.cli import profile as cli_profile
from phiedge.engines.machine_rates import MachineRates, MeasuredRate


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle.path, tmp_path / "bundle")


def test_a_profile_is_stored_told_and_used(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "profile", bundle, "--seconds", "0.5", "--max-context", "512", "--json")
    assert (told.code, told.err) == (0, "")
    found = told.json
    assert Path(found["profile"]).is_file()
    assert found["identity"]["backend"] == "onnxruntime"
    errors = {f"{which}_error{how}" for which in ("median", "p95") for how in ("", "_as_forecast")}
    assert found["fit"].keys() == {"requests", *errors, "within"}
    assert found["model"]["step"]["samples"] > 50
    words = ("run", bundle, "-p", "hello", "--think", "off", "--max-context", "512", "--answer-tokens", "2")
    answer = tell(capsys, *words, "--deadline-ms", "20000", "--json").json
    assert answer["plan"]["forecast"]["total"] <= 20000
    assert answer["outcome"]["promised"]
    degraded = ("--token-ms", "20000", "--on-infeasible", "degrade", "--min-visual-tokens", "64", "--json")
    assert tell(capsys, *words, "--deadline-ms", "20000", *degraded).json["budget"]["min_visual_tokens"] == 64
    refused = tell(capsys, *words, "--deadline-ms", "0.01", "--json")
    assert refused.code == 1
    assert refused.json["error"]["type"] == "BudgetError"
    assert refused.json["error"]["message"].startswith("the budget cannot be met: deadline_ms 0.01 needs ")
    assert refused.json["error"]["remedy"].startswith("give --deadline-ms "), "as it is typed"


def test_a_plan_of_the_bundle_uses_its_profile(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(capsys, "profile", bundle, "--seconds", "0.2", "--max-context", "512")
    words = ("plan", "--bundle", bundle, "--image", "none", "--prompt-tokens", "20", "--answer-tokens", "4")
    (found,) = tell(capsys, *words, "--json").json["profiles"]
    assert found["of_this_machine"]
    assert found["usual_ms"]["total"] <= found["high_ms"]["total"] <= found["promised"]["deadline_ms"]
    late = tell(capsys, *words, "--deadline-ms", "0.001").out
    assert "this machine, as it is" in late
    assert "a session refuses it: the budget cannot be met" in late
    kept = tell(capsys, *words, "--deadline-ms", str(found["promised"]["deadline_ms"])).out
    assert "the deadline can be promised" in kept


def test_the_verdict_about_this_machine_is_what_was_measured_on_it(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = MeasuredRate(best=50, median=50, rounds=1)
    slow = MachineRates(threads=2, float_type="float32", read_gbps=rate, float_gflops=rate, int8_gops=rate)
    monkeypatch.setattr("phiedge.cli.probe_table.measure_processor", lambda: slow)
    # What a sample takes differs from run to run, and the same limits are asked for three times.
    monkeypatch.setattr("phiedge.cli.plan_here.sampled", lambda *asked, **sizes: None)
    words = ("plan", "-t", "cpu", "--bundle", bundle, "--image", "none", "--prompt-tokens", "20")
    before = tell(capsys, *words, "--deadline-ms", "0.05", "--json").json
    assert before["verdict_by"] == "limits"
    assert {name: before[name] for name in ("verdict", "feasible")} == before["by_limits"]
    tell(capsys, "profile", bundle, "--seconds", "0.2", "--max-context", "512")
    refused = tell(capsys, *words, "--deadline-ms", "0.05", "--json").json
    assert (refused["verdict"], refused["feasible"], refused["verdict_by"]) == ("refused", False, "profile")
    assert refused["by_limits"] == before["by_limits"]
    assert refused["changes"] == []
    in_time = refused["profiles"][0]["promised"]["deadline_ms"]
    kept = tell(capsys, *words, "--deadline-ms", in_time, "--json").json
    assert (kept["verdict"], kept["feasible"]) == ("promised", True)
    told = tell(capsys, *words, "--deadline-ms", in_time).out
    assert f"deadline of {in_time}.0 ms: promised, by the profile of onnxruntime on this machine" in told
    assert f"by the limits in the table above alone: {kept['by_limits']['verdict']}" in told
    assert tell(capsys, *words, "--json").json["verdict"] is None


def test_a_person_reads_how_good_it_is(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "profile", bundle, "--seconds", "0.2", "--max-context", "512")
    assert told.code == 0
    assert "requests that were not measured: predicted to" in told.out
    assert "stored in" in told.out


def test_what_happened_to_the_machine_meanwhile_is_told(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_profile, "disturbances", lambda samples: (f"{min(len(samples), 2)} samples saw a drop",))
    told = tell(capsys, "profile", bundle, "--seconds", "1.5", "--max-context", "512")
    assert "note: while it was measured, 2 samples saw a drop" in told.out


def test_seconds_that_make_no_sense_are_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "profile", bundle, "--seconds", "0", code=2)
    assert message == "seconds must be a number above 0, not 0"
    assert not (bundle / "profiles").exists()
