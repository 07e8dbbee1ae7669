import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from phiedge.bundle import SCHEMA_VERSION, Bundle
from phiedge.cli import main, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """What `phiedge.runtime.goldens` says about one stored number."""

    name: str
    max_abs_diff: float
    tolerance: float
    ok: bool


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_whole_bundle_is_verified(plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(plain_bundle.path)]) == 0
    shown = capsys.readouterr().out
    assert "6 files" in shown
    assert "It stores no goldens" in shown
    assert shown.endswith("\nverified\n")


def test_a_whole_bundle_is_verified_as_json(plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    (plain_bundle.path / "profiles").mkdir()
    (plain_bundle.path / "profiles" / "this-machine.json").write_text("{}")
    assert main(["verify", str(plain_bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "bundle": str(plain_bundle.path),
        "ok": True,
        "schema_version": SCHEMA_VERSION,
        "phiedge_version": "0.1.0",
        "files": 6,
        "bytes": sum(entry.bytes for entry in plain_bundle.manifest.files.values()),
        "problems": [],
        "goldens": None,
        "engines": [],
        "profiles": ["this-machine.json"],
    }


@pytest.mark.parametrize("name", ["decoder.ort.onnx", "embed_tokens.bin", "tokenizer.json"])
def test_a_flipped_byte_is_found_and_nothing_is_computed_with_it(
    plain_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(verify, "_check_goldens", lambda *_: pytest.fail("computed with a changed file"))
    flip(plain_bundle.file(name))
    assert main(["verify", str(plain_bundle.path)]) == 1
    shown = capsys.readouterr().out
    assert "changed" in shown
    assert name in shown
    assert shown.endswith("\nNOT verified\n")


def test_added_files_are_found(plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    (plain_bundle.path / "virus.py").write_text("")
    assert main(["verify", str(plain_bundle.path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == [{"path": "virus.py", "kind": "added", "detail": "the manifest does not list it"}]
    assert report["ok"] is False


def test_a_changed_manifest_is_an_error(plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    flip(plain_bundle.path / "manifest.json")
    assert main(["verify", str(plain_bundle.path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {plain_bundle.path}: ")


def test_a_newer_schema_is_an_error_with_its_remedy(plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    file = plain_bundle.path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 9}))
    assert main(["verify", str(plain_bundle.path), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "SchemaError"
    assert f"schema 9, this one reads {SCHEMA_VERSION}" in error["message"]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_a_path_out_of_the_bundle_is_an_error(
    plain_bundle: Bundle, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    file = plain_bundle.path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer": path}))
    assert main(["verify", str(plain_bundle.path)]) == 1
    assert "not a plain path inside the bundle" in capsys.readouterr().err


@pytest.mark.parametrize(("difference", "ok", "code", "word"), [(1e-6, True, 0, "same"), (0.5, False, 1, "DIFFERENT")])
def test_goldens_are_compared_and_shown(
    plain_bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    difference: float,
    ok: bool,
    code: int,
    word: str,
) -> None:
    row = Golden(name="logits", max_abs_diff=difference, tolerance=1e-3, ok=ok)
    monkeypatch.setattr(verify, "_check_goldens", lambda *_: [row])
    assert main(["verify", str(plain_bundle.path)]) == code
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("logits"))
    assert line.split() == ["logits", f"{difference:.2e}", "1e-03", word]
    assert main(["verify", str(plain_bundle.path), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["goldens"][0]["ok"] is ok


def test_a_backend_that_does_not_exist_is_refused_before_anything_is_hashed(
    plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(plain_bundle.path), "--backend", "gpu"]) == 2
    assert "there is no backend 'gpu'" in capsys.readouterr().err


def test_goldens_are_compared_on_the_backend_that_was_asked_for(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tiny_bundle.path), "--backend", "onnxruntime"]) == 0
    capsys.readouterr()
    assert main(["verify", str(tiny_bundle.path), "--backend", "onnxruntime-cuda"]) == 1
    assert "computes in float32" in capsys.readouterr().err
