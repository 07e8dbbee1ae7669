"""An export with random weights, from a directory that has only its configuration."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_checkpoints import FakeDims, fake_config, write_checkpoint
from phiedge.bundle import Bundle, hash_file
from phiedge.bundle.reading import JOURNAL_NAME
from phiedge.errors import UsageError
from phiedge.exporters import journal, weight_stream
from phiedge.exporters.random_tensors import RandomTensors
from phiedge.exporters.random_weights import RandomWeights, open_random_weights
from phiedge.exporters.source import Block
from phiedge.pipeline import export
from phiedge.runtime.embeddings import map_table
from phiedge.runtime.session import Session

SEED = 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("dry") / "small"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(fake_config(FakeDims())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bundle(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("dry-bundle") / "bundle"
    return export(str(directory), target="cpu", output=output, random_seed=SEED)


def read_report(bundle: Bundle) -> dict[str, Any]:
    return json.loads((bundle.path / str(bundle.manifest.quantization)).read_bytes())


def test_the_manifest_says_that_the_weights_are_random(bundle: Bundle, directory: Path) -> None:
    model = bundle.manifest.model
    assert (model.name, model.source, model.id) == ("small (random weights)", "random", None)
    assert model.revision == "seed 3, stand-in tokenizer.json, stand-in chat_template.jinja"
    assert {name: entry.sha256 for name, entry in model.files.items()} == {
        "config.json": hash_file(directory / "config.json")
    }
    assert "/" not in model.name
    assert str(directory.parent) not in (bundle.path / "manifest.json").read_text(encoding="utf-8")


def test_the_report_says_that_the_answers_mean_nothing(bundle: Bundle) -> None:
    first, *others = read_report(bundle)["notes"]
    assert first == "the weights are random (seed 3): what this bundle answers means nothing"
    assert [note.split()[0] for note in others if "stand-in" in note] == ["tokenizer.json", "chat_template.jinja"]


def test_the_same_seed_gives_the_same_bundle_and_another_seed_another(
    bundle: Bundle, directory: Path, tmp_path: Path
) -> None:
    again = export(str(directory), target="cpu", output=tmp_path / "again", random_seed=SEED)
    assert (again.path / "manifest.json").read_bytes() == (bundle.path / "manifest.json").read_bytes()
    assert again.check_files() == []
    other = export(str(directory), target="cpu", output=tmp_path / "other", random_seed=SEED + 1)
    changed = {
        name for name, entry in other.manifest.files.items() if entry.sha256 != bundle.manifest.files[name].sha256
    }
    assert {"embed_tokens.bin", "vision.data", "decoder.data", "goldens.npz"} <= changed


def test_an_export_that_was_stopped_goes_on_with_the_same_weights_and_not_with_others(
    bundle: Bundle, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "STEP_BYTES", 20_000)
    monkeypatch.setattr(weight_stream, "BLOCK_BYTES", 4_000)
    output, partial = tmp_path / "bundle", tmp_path / ".bundle.partial-export"
    for seed in (SEED + 1, SEED):  # what the first left is of other weights
        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as until_stopped:
            until_stopped.setattr(RandomWeights, "blocks", _stopping(RandomWeights.blocks, after=100))
            export(str(directory), target="cpu", output=output, random_seed=seed)
        assert json.loads((partial / JOURNAL_NAME).read_bytes())["done"] > 5
    told: list[str] = []
    finished = export(str(directory), target="cpu", output=output, random_seed=SEED, notice=told.append)
    assert (finished.path / "manifest.json").read_bytes() == (bundle.path / "manifest.json").read_bytes()
    assert told == []
    assert not partial.exists()


def _stopping(blocks: Callable[..., Iterator[Block]], *, after: int) -> Callable[..., Iterator[Block]]:
    def stopping(*arguments: Any, **options: Any) -> Iterator[Block]:
        yield from itertools.islice(blocks(*arguments, **options), after)
        raise KeyboardInterrupt

    return stopping


def test_the_tables_are_those_of_the_source(bundle: Bundle, directory: Path) -> None:
    table = map_table(bundle.path / bundle.manifest.embed_tokens.file, bundle.manifest.embed_tokens)
    with open_random_weights(directory, seed=SEED) as source:
        made = RandomTensors(source.config, seed=SEED).tensor("model.embed_tokens.weight")
    np.testing.assert_array_equal(table, made)


def test_it_answers_about_a_picture(bundle: Bundle) -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    with Session.open(bundle, max_context=512) as session:
        result = session.generate("What is this?", [picture], max_new_tokens=8)
    assert 1 <= len(result.token_ids) <= 8


@pytest.mark.parametrize("model", ["reference", "owner/name"])
def test_a_model_that_is_no_directory_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="random weights|trained weights"):
        export(model, target="cpu", output=tmp_path / "bundle", random_seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_weights_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "whole")
    with pytest.raises(UsageError, match="has weights"):
        export(str(checkpoint), target="cpu", output=tmp_path / "bundle", random_seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
