"""`phiedge export --random-weights`: the dry run of a download, as a person and a program see it."""

import json
from pathlib import Path

import pytest

from command_lines import assert_refused, tell
from fake_checkpoints import FakeDims, fake_config, write_checkpoint
from phiedge.bundle import Bundle

PICTURE = Path(__file__).parents[2] / "examples" / "kiosk.png"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "dry"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(fake_config(FakeDims())), encoding="utf-8")
    return path


def test_a_dry_run_goes_from_a_configuration_to_an_answer(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bundle"
    told = tell(capsys, "export", "-t", "cpu", "-m", directory, "--random-weights", "-o", output)
    assert told.code == 0, told.err
    assert told.out.splitlines()[0].removeprefix("model").strip() == "dry (random weights)"
    assert "note: the weights are random (seed 0): what this bundle answers means nothing" in told.out
    assert "note: tokenizer.json is a stand-in" in told.out

    answered = tell(capsys, "run", output, "-i", PICTURE, "-p", "What is this?", "--max-new-tokens", 40)
    assert answered.code == 0, answered.err
    assert all(character.isprintable() or character == "\n" for character in answered.out + answered.err)
    assert tell(capsys, "verify", output).code == 0


def test_a_program_reads_the_name_the_seed_and_the_notes(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bundle"
    words = ("export", "-t", "cpu", "-m", directory, "--random-weights", "--seed", 12, "-o", output, "--json")
    told = tell(capsys, *words).json
    assert told["model"] == "dry (random weights)"
    assert "random (seed 12)" in told["notes"][0]
    revision = Bundle.open(output).manifest.model.revision
    assert revision is not None
    assert revision.startswith("seed 12")


def test_what_cannot_have_random_weights_is_refused(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_checkpoint(tmp_path / "whole")
    output = ("-o", tmp_path / "bundle")
    for model, code, message in (
        ((), 2, "the model 'reference' comes with its trained weights"),
        (("-m", "owner/name"), 2, "there is no directory owner/name, and nothing is downloaded"),
        (("-m", whole), 2, "has weights (model.safetensors)"),
        (("-m", tmp_path), 1, "has no config.json"),
    ):
        assert message in assert_refused(capsys, "export", "-t", "cpu", *model, "--random-weights", *output, code=code)
    words = ("export", "-t", "cpu", "-m", directory, *output, "--seed", 1)
    assert "--seed" in assert_refused(capsys, *words, code=2)
    assert "a seed is a whole number" in assert_refused(capsys, *words[:-1], -1, "--random-weights", code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dry", "whole"]


def test_a_directory_without_weights_and_without_the_option_is_told_of_it(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tell(capsys, "export", "-t", "cpu", "-m", directory, "-o", tmp_path / "bundle")
    assert told.code == 1
    assert "tokenizer.json" in told.err
