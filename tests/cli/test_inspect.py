"""`phiedge inspect`, through the command line, on real bundles; none of these tests has a GPU."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle
from phiedge.pipeline import building

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "inspect.md"
# Their keys are names of a manifest, a report or a record, which the document does not repeat.
FREE = {"facts", "tools", "machine", "options", "source", "target", "opsets", "quantization", "read_bytes", "files"}


@pytest.fixture
def bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def built_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "bundle"
    shutil.copytree(tiny_bundle.path, path)
    building.build(path, threads=1)
    return path


def keys_in(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from keys_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            if key not in FREE:
                yield from keys_in(item)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def test_a_page_says_what_is_in_a_bundle(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "inspect", exported_bundle)
    assert (told.code, told.err) == (0, "")
    lines = [line.split() for line in told.out.splitlines()]
    manifest = Bundle.open(exported_bundle).manifest
    assert ["model", manifest.model.name] in lines
    entry = manifest.files["decoder.data"]
    assert ["decoder", "decoder.data", f"{entry.bytes:,}", entry.sha256[:12]] in lines
    for name in manifest.dialects:
        assert any(line[:1] == [name] for line in lines)
        assert any(line[:1] == [f"decoder.{name}.onnx"] for line in lines)
    assert "GroupQueryAttention:4" in told.out
    assert "serve several dialects" in told.out
    assert "self_attn" not in told.out, "layers are for --layers"
    origin = told.out.split("\n\n")[0].splitlines()
    assert max(map(len, origin)) <= 80


def test_every_layer_and_every_input_is_listed_where_it_is_asked_for(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tell(capsys, "inspect", exported_bundle, "--layers")
    lines = [line.split() for line in told.out.splitlines()]
    assert any(line[:2] == ["model.layers.3.mlp.down_proj", "int4/128"] for line in lines)
    assert ["in", "past.*.key", "(4)", "float32", "1", "x", "2", "x", "capacity", "x", "32"] in lines
    assert ["in", "total_sequence_length", "int32", "one", "number"] in lines


def test_json_holds_together(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "inspect", exported_bundle, "--json").json
    manifest = Bundle.open(exported_bundle).manifest
    files = [file for part in told["parts"] for file in part["files"]]
    assert {file["path"]: (file["bytes"], file["sha256"]) for file in files} == {
        name: (entry.bytes, entry.sha256) for name, entry in manifest.files.items()
    }
    assert told["files"] == len(files)
    assert told["bytes"] == sum(file["bytes"] for file in files)
    sharing = told["sharing"]
    read = sum(sharing["read_bytes"].values())
    assert sharing["stored_bytes"] == read - sharing["saved_bytes"] + sharing["unread_bytes"]
    assert sharing["shared_bytes"] > 0
    layers = sum(layer["stored_bytes"] for layer in told["layers"])
    assert layers + sum(told["other_weights_bytes"].values()) == sharing["stored_bytes"] - sharing["unread_bytes"]
    assert {layer["relative_l2"] is not None for layer in told["layers"] if layer["part"] == "decoder"} == {True}
    assert {dialect["name"] for dialect in told["dialects"]} == set(manifest.dialects)
    assert told["quantization"]["accuracy"]["asked"] > 0
    assert (told["engines"], told["damaged_engines"], told["profiles"]) == ([], [], [])


def test_every_key_is_documented(exported_bundle: Path, built_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prose = re.sub(r"```.*?```", "", DOCUMENT.read_text(), flags=re.DOTALL)
    known = {word for code in re.findall(r"`[^`]+`", prose) for word in re.findall(r"\w+", code)}
    for path in (exported_bundle, built_bundle):
        told = tell(capsys, "inspect", path, "--json").json
        assert set(keys_in(told)) - known == set()


def test_parts_leave_out_the_rest(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "inspect", exported_bundle, "--part", "decoder", "--part", "goldens", "--json").json
    assert [part["name"] for part in told["parts"]] == ["decoder", "goldens"]
    assert {layer["part"] for layer in told["layers"]} == {"decoder", "lm_head"}
    assert all(dialect["vision"] is None and dialect["decoder"]["nodes"] > 0 for dialect in told["dialects"])
    assert set(told["other_weights_bytes"]) == {"decoder"}
    whole = tell(capsys, "inspect", exported_bundle, "--part", "tokenizer").out
    assert Bundle.open(exported_bundle).manifest.files["tokenizer.json"].sha256 in whole
    assert "decoder" not in whole


def test_an_engine_is_told_with_what_it_is_made_of(built_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (engine,) = tell(capsys, "inspect", built_bundle, "--json").json["engines"]
    assert (engine["backend"], engine["usable"], engine["obstacles"]) == ("onnxruntime", True, [])
    operators = {operator["op_type"] for graph in engine["graphs"] for operator in graph["operators"]}
    assert "MatMulNBits" in operators
    told = tell(capsys, "inspect", built_bundle)
    assert re.search(r"usable here +yes", told.out)


def test_an_engine_of_another_machine_is_told_with_both_sides_and_the_remedy(
    built_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(built_bundle, tmp_path / "bundle")
    record = tmp_path / "bundle" / "engines" / "onnxruntime-cpu" / "engine.json"
    changed = json.loads(record.read_bytes())
    changed["machine"]["architecture"] = "riscv64"
    record.write_text(json.dumps(changed))
    told = tell(capsys, "inspect", tmp_path / "bundle")
    assert told.code == 0
    assert re.search(r"usable here +no, see below", told.out)
    said = " ".join(told.out.split())
    assert "was built for architecture riscv64; here is" in said
    assert "remedy: build it again" in said


def test_a_damaged_engine_is_told_and_makes_it_fail(
    built_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(built_bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "engines" / "onnxruntime-cpu" / "vision.onnx").unlink()
    told = tell(capsys, "inspect", tmp_path / "bundle")
    assert told.code == 1
    said = " ".join(told.out.split())
    assert "DAMAGED: onnxruntime-cpu" in said
    assert "vision.onnx is missing" in said
    as_json = tell(capsys, "inspect", tmp_path / "bundle", "--json")
    assert as_json.code == 1
    (damaged,) = as_json.json["damaged_engines"]
    assert "phiedge build" in damaged["remedy"]
    assert len(as_json.json["layers"]) > 0


def test_no_weight_is_read(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tell(capsys, "inspect", bundle, "--json").out
    for name in ("vision.data", "decoder.data", "embed_tokens.bin", "position_table.bin"):
        size_bytes = (bundle / name).stat().st_size
        with (bundle / name).open("wb") as file:
            file.truncate(size_bytes)
    assert tell(capsys, "inspect", bundle, "--json").out == before


def test_files_that_nobody_listed_are_told(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "strange\x1b]0;x\x07.bin").write_bytes(b"")
    assert tell(capsys, "inspect", bundle, "--json").json["unlisted_files"] == [r"'strange\x1b]0;x\x07.bin'"]
    assert "\x1b" not in tell(capsys, "inspect", bundle).out


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no bundle at" in assert_refused(capsys, "inspect", tmp_path / "none")
    assert "is not a bundle" in assert_refused(capsys, "inspect", tmp_path)


def test_a_damaged_manifest_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(bundle / "manifest.json")
    assert str(bundle) in assert_refused(capsys, "inspect", bundle)


def test_a_damaged_graph_is_refused_by_its_name(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = bundle / "decoder.ort.onnx"
    size_bytes = graph.stat().st_size
    graph.write_bytes(b"\x00" * size_bytes)
    message = assert_refused(capsys, "inspect", bundle)
    assert f"{graph} is not a graph: byte 1 begins a field of number 0" in message


def test_a_file_of_another_size_is_refused_with_both(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = Bundle.open(bundle).manifest.files["decoder.data"].bytes
    with (bundle / "decoder.data").open("ab") as file:
        file.write(b"x")
    message = assert_refused(capsys, "inspect", bundle)
    assert f"decoder.data has {listed + 1} bytes, the manifest says {listed}" in message


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--part", "decodr"), "a bundle has no part 'decodr'"),
        (("--depth", "3"), "no such option"),
    ],
)
def test_what_does_not_exist_is_refused(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert told in assert_refused(capsys, "inspect", exported_bundle, *words, code=2)


def test_a_part_that_this_bundle_lacks_is_refused(oracle_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no goldens" in assert_refused(capsys, "inspect", oracle_bundle.path, "--part", "goldens", code=2)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_page_fits_the_terminal(exported_bundle: Path, columns: int) -> None:
    """No line of a table is longer than the terminal is wide, and no cell ends in dots."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb"}
    command = [sys.executable, "-m", "phiedge", "inspect", str(exported_bundle), "--layers"]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 65536):
                shown += part
        except OSError:  # the end of a terminal that nobody holds any more
            os.close(leader)
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()
    assert len(lines) > 60
    assert max(map(len, lines)) <= columns
    assert "…" not in "".join(lines)
