"""`phiedge build`, through the command line, on a small bundle."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines import backends
from phiedge.engines.engine_record import RECORD_NAME
from phiedge.engines.onnxruntime import built
from phiedge.errors import BundleError
from phiedge.pipeline import building
from phiedge.runtime import goldens
from phiedge.runtime.session import Session

ENGINE = Path("engines") / built.ENGINE_NAME


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def built_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "bundle"
    shutil.copytree(tiny_bundle.path, path)
    building.build(path, threads=1)
    return path


def without_goldens(path: Path) -> None:
    manifest = Bundle.open(path).manifest
    assert manifest.goldens is not None
    (path / manifest.goldens).unlink()
    files = {name: entry for name, entry in manifest.files.items() if name != manifest.goldens}
    (path / "manifest.json").write_bytes(replace(manifest, goldens=None, files=files).to_bytes())


def test_an_engine_is_built_told_and_used(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "build", bundle)
    assert told.code == 0, told.err
    assert "onnxruntime" in told.out
    assert "instruction sets" in told.out
    assert told.out.endswith(f"written to {bundle / ENGINE}\n")
    assert Bundle.open(bundle).check_files() == []
    verified = tell(capsys, "verify", bundle, "--json").json
    assert verified["ok"]
    assert verified["engines"] == [built.ENGINE_NAME]


def test_json_says_what_it_was_built_for(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = tell(capsys, "build", bundle, "--threads", 1, "--json").json["engines"]
    record = json.loads((bundle / ENGINE / RECORD_NAME).read_bytes())
    assert told["tools"] == record["tools"] == built.tools()
    assert told["machine"] == record["machine"] == built.machine()
    assert told["bytes"] == sum(entry["bytes"] for entry in record["files"].values())


def test_a_built_engine_answers_to_the_last_bit_as_the_graphs_do(tiny_bundle: Bundle, built_bundle: Path) -> None:
    found = []
    for path in (tiny_bundle.path, built_bundle):
        with Session.open(path, threads=1) as session:
            found.append(session.logits("What is this?", [np.full((32, 48, 3), 90, np.uint8)]))
    np.testing.assert_array_equal(found[0], found[1])


def test_an_engine_of_another_version_is_refused_by_run_naming_both(
    built_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(built_bundle, tmp_path / "bundle")
    record = tmp_path / "bundle" / ENGINE / RECORD_NAME
    record.write_text(record.read_text().replace(built.tools()["onnxruntime"], "0.1.0"))
    message = assert_refused(capsys, "run", tmp_path / "bundle", "-p", "What is this?")
    assert f"was built by onnxruntime 0.1.0; here is {built.tools()['onnxruntime']}" in message


def test_an_engine_of_another_processor_is_refused_naming_both(
    built_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = built.machine()
    monkeypatch.setattr(built, "machine", lambda: {**here, "architecture": "riscv64"})
    with pytest.raises(BundleError, match="here is riscv64"):
        Session.open(built_bundle)


def test_where_the_export_stored_no_goldens_they_come_with_the_engine(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_goldens(bundle)
    assert tell(capsys, "verify", bundle, "--json").json["goldens"] is None
    (told,) = tell(capsys, "build", bundle, "--json").json["engines"]
    assert told["goldens"] == "goldens.npz"
    verified = tell(capsys, "verify", bundle, "--json").json
    assert verified["ok"]
    assert len(verified["goldens"]) > 0


def test_a_damaged_engine_is_not_verified(
    built_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(built_bundle, tmp_path / "bundle")
    data = tmp_path / "bundle" / ENGINE / "decoder.onnx.data"
    damaged = bytearray(data.read_bytes())
    damaged[100] ^= 1
    data.write_bytes(damaged)
    told = tell(capsys, "verify", tmp_path / "bundle", "--json")
    assert told.code == 1
    assert [problem["path"] for problem in told.json["problems"]] == [f"{ENGINE}/decoder.onnx.data"]


def test_a_damaged_bundle_is_not_built_from(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bundle / "decoder.data"
    damaged = bytearray(data.read_bytes())
    damaged[100] ^= 1
    data.write_bytes(damaged)
    message = assert_refused(capsys, "build", bundle)
    assert "decoder.data is changed" in message
    assert list((bundle / "engines").iterdir()) == []


def test_an_engine_is_tried_on_its_own_backend_where_another_is_the_default(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "default_backend", lambda _: "tensorrt")
    building.build(bundle, threads=1)


def test_an_engine_that_answers_otherwise_is_not_kept(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [replace(golden, logits=-golden.logits) for golden in goldens.load(Bundle.open(bundle))]
    monkeypatch.setattr(goldens, "load", lambda _: changed)
    with pytest.raises(BundleError, match="does not answer the golden"):
        building.build(bundle, threads=1)
    assert list((bundle / "engines").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--backend", "onnxruntim"], "nothing to build for 'onnxruntim'", 2),
        (["--threads", "0"], "threads must be from 1", 2),
    ],
)
def test_wrong_options_are_refused(
    bundle: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str, code: int
) -> None:
    assert message in assert_refused(capsys, "build", bundle, *words, code=code)
    assert not (bundle / "engines").exists()


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no bundle" in assert_refused(capsys, "build", tmp_path / "nothing")


def test_only_weights_that_lie_on_pages_are_kept_packed(tiny_bundle: Bundle) -> None:
    def sized(hidden: int, heads: int, intermediate: int) -> ModelFacts:
        return replace(
            tiny_bundle.manifest.facts,
            hidden_size=hidden,
            num_heads=heads,
            head_dim=128,
            intermediate_size=intermediate,
        )

    assert not built.packs(tiny_bundle.manifest.facts)
    assert built.packs(sized(5120, 40, 17920))
    assert not built.packs(sized(1024, 8, 4096))
