"""What goes wrong before phiedge: checkpoints, pictures, prompts and bundles, as a person meets them."""

import errno
import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from command_lines import assert_refused, tell
from fake_checkpoints import write_checkpoint
from phiedge.bundle import Bundle
from phiedge.exporters.append_file import AppendFile

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
SHARD = "model-00001-of-00002.safetensors"
Change = Callable[[Path], object]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def edit_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def name_a_missing_shard(checkpoint: Path) -> None:
    index = checkpoint / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map=weight_map | {"lm_head.weight": "model-00009-of-00009.safetensors"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "is not a checkpoint: it has no config.json"),
        (lambda path: (path / "config.json").write_text("{"), "config.json is not JSON"),
        (
            lambda path: edit_json(path / "config.json", model_type="llama"),
            "model_type is 'llama', phiedge exports 'phi4-siglip'",
        ),
        (lambda path: cut(path / SHARD), "is cut short"),
        (lambda path: (path / SHARD).write_bytes(b""), "is cut short: it has 0 bytes"),
        (name_a_missing_shard, "names the shard model-00009-of-00009.safetensors, which is missing"),
        (lambda path: (path / SHARD).unlink(), f"names the shard {SHARD}, which is missing"),
        (lambda path: shutil.copy(ORACLE / "tokenizer.json", path), "wrong tokenizer: its highest id is 508"),
        (
            lambda path: edit_json(path / "tokenizer.json", decoder={"type": "Fuse"}),
            "decodes by Fuse, this model's tokenizer by ByteLevel",
        ),
        (lambda path: (path / "chat_template.jinja").write_text("{% for"), "the chat template does not compile"),
        (lambda path: (path / "chat_template.jinja").write_bytes(b"\xff"), "chat_template.jinja is not UTF-8 text"),
    ],
)
def test_a_checkpoint_that_is_none_is_refused_and_nothing_is_left(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, checkpoint)
    change(checkpoint)
    output = tmp_path / "out" / "bundle"
    assert message in assert_refused(capsys, "export", "--target", "cpu", "--model", checkpoint, "-o", output)
    assert names(tmp_path / "out") == []


def test_a_place_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bundle"
    message = assert_refused(capsys, "export", "-t", "cpu", "-m", tmp_path / "nowhere", "-o", output)
    assert message == f"there is no directory {tmp_path / 'nowhere'}, and it is not a Hub id either"


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.zeros((64, 96), np.float32)
    values[3, 7] = np.nan
    checkpoint = write_checkpoint(tmp_path / "nan", replace={"model.layers.1.mlp.down_proj.weight": values})
    message = assert_refused(capsys, "export", "-t", "cpu", "-m", checkpoint, "-o", tmp_path / "out" / "bundle")
    assert message == "model.layers.1.mlp.down_proj.weight[3, 7] is nan, weights must be finite"
    assert names(tmp_path / "out") == []


RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(64, 96, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(RGB, "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "there is no file"),
        (b"", "the picture is empty"),
        (b"not a picture", "is not a picture that can be read"),
        (encoded(RGB, "PNG")[:2000], "is a damaged picture"),
        (bomb(60_000, 60_000), "is too large: it has 3,600,000,000 pixels; the limit is 67,108,864 pixels"),
        (bomb(12_000, 9_000), "it has 12000x9000 = 108,000,000 pixels; the limit is 67,108,864 pixels"),
    ],
)
def test_a_picture_that_is_none_is_refused(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None, message: str
) -> None:
    file = tmp_path / "picture.png"
    if data is not None:
        file.write_bytes(data)
    said = assert_refused(capsys, "run", tiny_bundle.path, "-p", "What is this?", "-i", file)
    assert said.startswith("picture 1: ")
    assert message in said


@pytest.mark.parametrize(
    "data",
    [
        encoded(RGB.resize((1, 1)), "PNG"),
        encoded(RGB.convert("CMYK"), "JPEG"),
        encoded(RGB.convert("P"), "PNG"),
        encoded(RGB.convert("RGBA"), "PNG"),
        encoded(RGB.convert("LA"), "PNG"),
        encoded(Image.fromarray(np.arange(6144, dtype=np.uint16).reshape(64, 96) * 10), "PNG"),
        turned(),
    ],
    ids=["1x1", "CMYK", "palette", "alpha", "grey with alpha", "16 bits", "turned by EXIF"],
)
def test_an_unusual_picture_is_answered(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    (tmp_path / "picture").write_bytes(data)
    words = ("-p", "What is this?", "-i", tmp_path / "picture", "--max-new-tokens", 2, "--json")
    told = tell(capsys, "run", tiny_bundle.path, *words)
    assert (told.code, told.err) == (0, "")
    assert told.json["tokens"]["visual"] > 0


@pytest.mark.parametrize(
    ("prompt", "pictures", "message"),
    [
        ("<image> and <image>", 1, "the prompt has 2 <image> placeholders, 1 image was given"),
        ("<image>", 2, "the prompt has 1 <image> placeholder, 2 images were given"),
        ("What is <image>?", 0, "the prompt has 1 <image> placeholder, 0 images were given"),
        ("", 0, "the prompt is empty"),
        ("<|im_end|>", 0, "would read as a control token"),
        ("word " * 2000, 0, "the context has 8192 positions, which leaves 0 for the answer"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prompt: str,
    pictures: int,
    message: str,
) -> None:
    RGB.save(tmp_path / "picture.png")
    images = [word for _ in range(pictures) for word in ("-i", tmp_path / "picture.png")]
    assert message in assert_refused(capsys, "run", tiny_bundle.path, "-p", prompt, *images)


@pytest.fixture
def copied(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be spoilt."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


@pytest.mark.parametrize("verb", [("verify",), ("run", "-p", "What is this?")])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: edit_json(path / "manifest.json", schema_version=4),
            "written by a newer phiedge (schema 4, this one reads 3)",
        ),
        (
            lambda path: edit_json(path / "manifest.json", tokenizer="../../etc/passwd"),
            "which is not a plain path inside the bundle",
        ),
        (lambda path: flip(path / "manifest.json"), "the manifest"),
        (lambda path: (path / "manifest.json").unlink(), "is not a bundle: it has no manifest.json"),
        (lambda path: (path / "decoder.data").unlink(), "lacks the file decoder.data"),
        (lambda path: cut(path / "decoder.data"), "decoder.data has"),
        (shutil.rmtree, "there is no bundle at"),
    ],
)
def test_a_bundle_that_is_not_as_it_was_written_does_not_open(
    copied: Path, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...], change: Change, message: str
) -> None:
    change(copied)
    name, *options = verb
    assert message in assert_refused(capsys, name, copied, *options)


@pytest.mark.parametrize("name", ["decoder.data", "vision.ort.onnx", "tokenizer.json", "goldens.npz"])
def test_a_flipped_byte_is_found_by_verify(copied: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    flip(copied / name)
    told = tell(capsys, "verify", copied, "--json")
    assert told.code == 1
    assert [(problem["path"], problem["kind"]) for problem in told.json["problems"]] == [(name, "changed")]


@pytest.mark.parametrize(
    ("name", "message"), [("decoder.ort.onnx", "{} is not a graph"), ("vision.ort.onnx", "cannot open {}")]
)
def test_a_graph_that_is_none_does_not_run(
    copied: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    (copied / name).write_bytes(bytes((copied / name).stat().st_size))
    assert message.format(copied / name) in assert_refused(capsys, "run", copied, "-p", "What is this?")


def test_a_full_disk_is_told_when_it_is_seen_coming(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=500_000))
    output = tmp_path / "out" / "bundle"
    message = assert_refused(capsys, "export", "-t", "cpu", "-m", tiny_checkpoint, "-o", output)
    assert message == f"the bundle needs 0.8 MB, {output.parent} has 0.5 MB free"
    assert names(output.parent) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AppendFile, "append", refuse)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))  # others write to the disk, too
    output = tmp_path / "out" / "bundle"
    message = assert_refused(capsys, "export", "-t", "cpu", "-m", tiny_checkpoint, "-o", output)
    assert message.startswith(f"the disk of {output.parent} is full: ")
    assert names(output.parent) == []


def test_a_directory_that_may_not_be_written_is_told_without_a_traceback(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tell(capsys, "export", "-t", "cpu", "-m", tiny_checkpoint, "-o", "/proc/bundle")
    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("error: /proc/")


def test_an_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "phiedge", "devices", "list"]
        finished = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert finished.returncode == 1
    assert "no space left on device" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_options_that_do_not_exist_are_usage(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle.path
    for words in (
        ("export", "--target", "orni"),
        ("export", "--target", "cpu", "--precision", "int3"),
        ("run", bundle, "-p", "hello", "--think", "maybe"),
        ("run", bundle, "-p", "hello", "--threads", "100000"),
        ("run", bundle),
        ("verify",),
    ):
        assert_refused(capsys, *words, code=2)
