import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import BundleError
from phiedge.runtime import goldens as goldens_module
from phiedge.runtime.goldens import GOLDENS_FILE, Golden, GoldenQuestion, check, load, record, save
from phiedge.runtime.session import Session

PICTURE = np.random.default_rng(0).integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
QUESTION = GoldenQuestion(name="picture", prompt="What is this?", pictures=(PICTURE,), think="on")


def golden(vocab: int = 272, tokens: int = 3) -> Golden:
    logits = np.random.default_rng(1).normal(size=(tokens, vocab)).astype(np.float32)
    return Golden(question=QUESTION, token_ids=tuple(range(tokens)), logits=logits)


@pytest.fixture
def copied(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """The tiny bundle, to write into; it is not looked at as a whole any more."""
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    return replace(tiny_bundle, path=tmp_path / "bundle")


def test_goldens_are_read_as_they_were_saved(copied: Bundle) -> None:
    text = GoldenQuestion(name="text", prompt="größer?")
    saved = [golden(), replace(golden(tokens=1), question=text)]
    save(saved, copied.file(GOLDENS_FILE))
    for found, wanted in zip(load(copied), saved, strict=True):
        assert (found.token_ids, found.question.think) == (wanted.token_ids, wanted.question.think)
        assert (found.question.name, found.question.prompt) == (wanted.question.name, wanted.question.prompt)
        assert np.array_equal(found.logits, wanted.logits)
        assert len(found.question.pictures) == len(wanted.question.pictures)
        assert all(map(np.array_equal, found.question.pictures, wanted.question.pictures))


def test_the_same_goldens_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save([golden()], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_recorded_is_what_the_session_says_and_why(tiny_bundle: Bundle) -> None:
    with Session.open(tiny_bundle, max_context=1024) as session:
        found = record(session, [QUESTION])[0]
        said = session.generate(QUESTION.prompt, QUESTION.pictures, think="on", max_new_tokens=6).token_ids
    assert found.token_ids == said
    assert found.logits.argmax(axis=1).tolist() == list(said)


def test_a_question_that_does_not_fit_is_left_out(tiny_bundle: Bundle) -> None:
    text = GoldenQuestion(name="text", prompt="What is this?")
    with Session.open(tiny_bundle, max_context=100) as session:
        found = record(session, [QUESTION, text])
    assert [entry.question.name for entry in found] == ["text"]


def test_a_bundle_passes_where_it_was_exported(tiny_bundle: Bundle) -> None:
    rows = check(tiny_bundle)
    assert [row.name for row in rows] == ["text", "picture", "thinking", "two pictures"]
    for row in rows:
        assert row.max_abs_diff is not None
        assert row.max_abs_diff < 1e-3
        assert row.ok


@pytest.mark.parametrize(("share", "ok"), [(0.01, True), (0.03, False)])
def test_a_difference_is_measured_in_units_of_the_largest_logit(copied: Bundle, share: float, ok: bool) -> None:
    stored = load(copied)[:1]
    logits = stored[0].logits.copy()
    logits[0, 5] += share * np.abs(logits).max()
    save([replace(stored[0], logits=logits)], copied.file(GOLDENS_FILE))
    row = check(copied)[0]
    assert row.max_abs_diff == pytest.approx(share, rel=0.05)
    assert row.ok is ok


@pytest.mark.parametrize(
    ("group_size", "activations", "tolerance"),
    [(32, "float32", 2e-2), (None, "float16", 1e-2), (None, "float32", 1e-4)],
)
def test_the_tolerance_follows_the_precision(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    group_size: int | None,
    activations: str,
    tolerance: float,
) -> None:
    manifest = tiny_bundle.manifest
    precision = replace(manifest.precision, group_size=group_size)
    monkeypatch.setattr(Session, "activations", activations)
    rows = check(replace(tiny_bundle, manifest=replace(manifest, precision=precision)))
    assert {row.tolerance for row in rows} == {tolerance}


def test_logits_that_are_no_numbers_fail_without_a_difference(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.full((6, 272), np.nan, np.float32)
    monkeypatch.setattr(goldens_module, "_logits", lambda *_: broken)
    assert {(row.max_abs_diff, row.ok) for row in check(tiny_bundle)} == {(None, False)}


def test_a_bundle_without_goldens_has_none(tiny_bundle: Bundle) -> None:
    assert load(replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, goldens=None))) == []


def with_arrays(**changed: np.ndarray | None) -> bytes:
    """A file of goldens for the tiny bundle in which some arrays are others, or missing where None."""
    index = [{"name": "picture", "prompt": "What?", "think": "off", "pictures": 1}]
    arrays: dict[str, np.ndarray | None] = {
        "index": np.frombuffer(json.dumps(index).encode(), np.uint8),
        "0.tokens": np.array([1, 2], np.int32),
        "0.logits": np.ones((2, 272), np.float32),
        "0.picture.0": PICTURE,
    }
    stream = io.BytesIO()
    np.savez(stream, **{name: values for name, values in (arrays | changed).items() if values is not None})
    return stream.getvalue()


def index_of(**changed: object) -> np.ndarray:
    entry = {"name": "picture", "prompt": "What?", "think": "off", "pictures": 1} | changed
    return np.frombuffer(json.dumps([entry]).encode(), np.uint8)


def damaged(data: bytes) -> bytes:
    """The same archive, stored compressed, with a byte changed in the middle."""
    stream = io.BytesIO()
    with np.load(io.BytesIO(data)) as arrays:
        np.savez_compressed(stream, **arrays)
    changed = bytearray(stream.getvalue())
    changed[len(changed) // 2] ^= 0xFF
    return bytes(changed)


WITH_OBJECTS = io.BytesIO()
np.savez(WITH_OBJECTS, index=np.array([{"a": 1}], dtype=object))


def test_the_whole_file_of_these_tests_is_read(copied: Bundle) -> None:
    copied.file(GOLDENS_FILE).write_bytes(with_arrays())
    assert load(copied)[0].token_ids == (1, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        with_arrays()[:-100],
        damaged(with_arrays()),
        WITH_OBJECTS.getvalue(),
        with_arrays(index=None),
        with_arrays(index=np.frombuffer(b"{", np.uint8)),
        with_arrays(index=np.frombuffer(b"7", np.uint8)),
        with_arrays(index=np.frombuffer(b"[1]", np.uint8)),
        with_arrays(index=index_of(pictures=2)),
        with_arrays(index=index_of(think="perhaps")),
        with_arrays(**{"0.tokens": None}),
        with_arrays(**{"0.tokens": np.empty(0, np.int32)}),
        with_arrays(**{"0.tokens": np.array(3, np.int32)}),
        with_arrays(**{"0.logits": np.ones((3, 272), np.float32)}),
        with_arrays(**{"0.logits": np.ones((2, 271), np.float32)}),
        with_arrays(**{"0.logits": np.ones((2, 272), np.float64)}),
        with_arrays(**{"0.logits": np.zeros((2, 272), np.float32)}),
        with_arrays(**{"0.logits": np.full((2, 272), np.inf, np.float32)}),
        with_arrays(**{"0.picture.0": PICTURE.astype(np.float32)}),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused(copied: Bundle, data: bytes) -> None:
    copied.file(GOLDENS_FILE).write_bytes(data)
    with pytest.raises(BundleError, match=GOLDENS_FILE) as caught:
        load(copied)
    assert caught.value.remedy == "export the bundle again"
