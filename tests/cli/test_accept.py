"""`phiedge accept` as it is typed, on a small bundle."""

import json
import signal
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from command_lines import assert_refused, stopped_at, tell
from phiedge.acceptance import evidence
from phiedge.acceptance.spec_template import TEMPLATE
from phiedge.bundle import Bundle

Capture = pytest.CaptureFixture[str]

EASY = (
    TEMPLATE.replace("foreign_cpu_share_max", "# foreign_cpu_share_max")
    .replace("drift_max_share = 0.1", "drift_max_share = 1000")
    .replace("quantile = 0.99\nlimit_ms = 2000", "quantile = 0.9\nlimit_ms = 600000")
    .replace("quantile = 0.95\nlimit_ms = 5000", "quantile = 0.8\nlimit_ms = 600000")
    .replace("max_new_tokens = 16", "max_new_tokens = 2")
    .replace("warmup_requests = 5", "warmup_requests = 1")
)


def spec(directory: Path, text: str = EASY) -> Path:
    path = directory / "accept.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_init_prints_a_spec_and_nothing_else(capsys: Capture) -> None:
    assert tell(capsys, "accept", "--init").out == TEMPLATE
    assert tell(capsys, "accept", "--init", "-t", "cpu").out == TEMPLATE
    board = tell(capsys, "accept", "--init", "-t", "orin").out
    assert "on Jetson AGX Orin 64 GB?" in board
    assert "1.25 times what is planned" in board
    assert "no device is called" in assert_refused(capsys, "accept", "--init", "-t", "orrin", code=2)
    assert "belongs to --init" in assert_refused(capsys, "accept", "-t", "orin", code=2)


def test_a_budget_that_is_kept_passes_and_leaves_evidence(capsys: Capture, tiny_bundle: Bundle, tmp_path: Path) -> None:
    reports = ["--junit", tmp_path / "r.xml", "--html", tmp_path / "r.html"]
    told = tell(capsys, "accept", tiny_bundle.path, spec(tmp_path), *reports)
    assert told.code == 0, told
    assert told.out.startswith("PASS\n")
    assert Xml.parse(tmp_path / "r.xml").getroot().get("failures") == "0"
    assert "<h1" in (tmp_path / "r.html").read_text(encoding="utf-8")
    before = (tmp_path / "r.html").read_text(encoding="utf-8")
    again = ["--html", tmp_path / "again.html"]
    checked = tell(capsys, "accept", "--check", tmp_path / "accept.evidence.json", *again, "--json")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == before
    assert checked.code == 0
    assert checked.json["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("change", "code", "verdict"),
    [
        (("limit_ms = 600000", "limit_ms = 0.001"), 1, "FAIL"),
        (("max_requests = 2000", "max_requests = 3"), 3, "INCONCLUSIVE"),
        (
            ("# memory_available_bytes_min = 500_000_000", "memory_available_bytes_min = 900_000_000_000_000"),
            4,
            "INVALID",
        ),
    ],
)
def test_every_other_verdict_has_its_exit_code(
    capsys: Capture, tiny_bundle: Bundle, tmp_path: Path, change: tuple[str, str], code: int, verdict: str
) -> None:
    told = tell(capsys, "accept", tiny_bundle.path, spec(tmp_path, EASY.replace(*change)), "--json")
    assert (told.code, told.json["verdict"]) == (code, verdict)
    assert "samples" not in told.json


def test_ctrl_c_keeps_what_was_measured(tiny_bundle: Bundle, tmp_path: Path) -> None:
    words = ("accept", tiny_bundle.path, spec(tmp_path))
    with stopped_at("phiedge.acceptance.requester:SessionRequester.request", *words, count=4) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "marked as interrupted" in err
    assert '"ended": "interrupted"' in (tmp_path / "accept.evidence.json").read_text(encoding="utf-8")


def test_what_cannot_be_meant_is_refused_before_anything_runs(
    capsys: Capture, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    assert "a bundle and a spec are needed" in assert_refused(capsys, "accept", code=2)
    assert "cannot be read" in assert_refused(capsys, "accept", tiny_bundle.path, tmp_path / "no.toml", code=2)
    impossible = spec(tmp_path, EASY.replace("quantile = 0.9\n", "quantile = 1.0\n"))
    assert "quantile 1" in assert_refused(capsys, "accept", tiny_bundle.path, impossible, code=2)
    nowhere = ("accept", tiny_bundle.path, spec(tmp_path), "--html", tmp_path / "none" / "r.html")
    assert "there is no directory" in assert_refused(capsys, *nowhere, code=2)


def test_edited_evidence_is_refused(capsys: Capture, tiny_bundle: Bundle, tmp_path: Path) -> None:
    tell(capsys, "accept", tiny_bundle.path, spec(tmp_path, EASY.replace("limit_ms = 600000", "limit_ms = 0.001")))
    path = tmp_path / "accept.evidence.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"verdict": "FAIL"', '"verdict": "PASS"'), encoding="utf-8"
    )
    assert "not as it was written" in assert_refused(capsys, "accept", "--check", path)


def test_a_disk_that_is_full_in_the_end_costs_no_measurement(
    capsys: Capture, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuge, real = tmp_path / "refuge", evidence.write_whole
    refuge.mkdir()

    def full(text: str, path: Path) -> None:
        if path.parent != refuge:
            raise OSError(28, "No space left on device")
        real(text, path)

    monkeypatch.setattr(evidence, "write_whole", full)
    monkeypatch.setattr("tempfile.tempdir", str(refuge))
    told = tell(
        capsys, "accept", tiny_bundle.path, spec(tmp_path, EASY.replace("max_requests = 2000", "max_requests = 3"))
    )
    assert told.code == 3
    assert "No space left on device" in told.err
    (kept,) = refuge.iterdir()
    assert str(kept) in told.out
    assert tell(capsys, "accept", "--check", kept).code == 3


def test_wishes_for_a_quieter_process_and_forms_are_in_the_evidence(
    capsys: Capture, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    text = EASY.replace("max_requests = 2000", "max_requests = 3").replace("# choice = ", "choice = ")
    few = spec(tmp_path, text.replace("max_new_tokens = 2", "max_new_tokens = 12"))
    told = tell(capsys, "accept", tiny_bundle.path, few, "--realtime", "freeze")
    assert "realtime freeze_garbage: applied" in told.out
    kept = json.loads((tmp_path / "accept.evidence.json").read_text(encoding="utf-8"))
    assert [[wish["status"] for wish in opening] for opening in kept["realtime"]] == [["applied"]]
    assert kept["spec"]["forms"]["tick"]["grammar"] == "lark"
    assert {(sample["formed"], sample["said"] in ("yes", "no")) for sample in kept["samples"]["tick"]} == {(True, True)}
    assert kept["bundle"]["profiles_used"] == []
    wrong = ("accept", tiny_bundle.path, few, "--realtime", "quiet")
    assert assert_refused(capsys, *wrong, code=2) == "--realtime does not know 'quiet'"


def test_evidence_is_signed_and_checked(capsys: Capture, tiny_bundle: Bundle, tmp_path: Path) -> None:
    key = tmp_path / "team.key"
    assert "keep it to yourself" in tell(capsys, "accept", "--new-key", key).out
    few = spec(tmp_path, EASY.replace("max_requests = 2000", "max_requests = 3"))
    assert "signed by" in tell(capsys, "accept", tiny_bundle.path, few, "--sign", key).out
    words = ("accept", "--check", tmp_path / "accept.evidence.json")
    assert "said to be signed by" in tell(capsys, *words).out
    assert ", signed by" in tell(capsys, *words, "--public-key", f"{key}.pub").out
    tell(capsys, "accept", "--new-key", tmp_path / "other.key")
    refused = assert_refused(capsys, *words, "--public-key", tmp_path / "other.key.pub")
    assert "the signature is not that of the key" in refused
    assert "checks evidence" in assert_refused(capsys, "accept", "--public-key", f"{key}.pub", code=2)
    nothing = ("accept", tiny_bundle.path, few, "--sign", tmp_path / "none.key")
    assert "cannot be read" in assert_refused(capsys, *nothing, code=2)
