"""Goldens: what a bundle answered where it was exported, stored in it so that any machine can check that it still does.

A golden is a question, the tokens that the model said, and the logits before each of them. They are the bundle's own,
at its own precision: `phiedge verify` tells a damaged file or a wrong engine from rounding, not a good model from a bad
one. How far the precision is from the model's own weights stands in `quantization.json`.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from phiedge.bundle import Bundle, Precision
from phiedge.bundle.manifest import VISION_EIGHT_BITS
from phiedge.engines.engine_record import built_engines
from phiedge.errors import BundleError, ContextLengthError
from phiedge.progress import Progress, silent
from phiedge.runtime.prompt import ThinkMode

if TYPE_CHECKING:
    from phiedge.runtime.session import Session

GOLDENS_FILE = "goldens.npz"
GOLDENS_CONTEXT = 2048  # what a session for them is opened with, where the bundle has as much
_TOKENS = 6  # of each answer: enough to go through the decode step several times

# Of the largest logit. Machines differ in the order of their sums; int4 kernels round activations to 8 bits, where a
# difference in the last place can cost a whole step.
_TOLERANCE_FLOAT32 = 1e-4
_TOLERANCE_FLOAT16 = 1e-2
_TOLERANCE_GROUPED = 2e-2
# Whatever comes before a rounding to 3 bits of mantissa, a last bit say, decides some of them otherwise, and those more
# of the next: after a few layers two engines that are both right differ as much as either from fp32. Seen: 0.09.
_TOLERANCE_FLOAT8 = 0.25

# The same of a vision graph in 8 bits, of whose rows the decoder makes a mean of many. Seen: 0.021 from the same bundle
# with vision in floats; two right engines are nearer to each other.
_TOLERANCE_VISION = 0.05

# What numpy's reader raises for files that are not what `save` writes.
_UNREADABLE = (KeyError, TypeError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """A question for a golden; `pictures` are uint8 arrays [h, w, 3] RGB."""

    name: str
    prompt: str
    pictures: tuple[npt.NDArray[np.uint8], ...] = ()
    think: ThinkMode = "off"

    def __post_init__(self) -> None:
        for picture in self.pictures:
            _require(picture.dtype == np.uint8 and picture.ndim == 3, f"{self.name!r} has a picture that is none")
        _require(self.think in get_args(ThinkMode), f"{self.name!r} has the think mode {self.think!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A question, the tokens that were said, and the float32 logits `[tokens, vocab]` that each was chosen from."""

    question: GoldenQuestion
    token_ids: tuple[int, ...]
    logits: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        name, logits, tokens = self.question.name, self.logits, len(self.token_ids)
        _require(tokens > 0, f"{name!r} has no tokens")
        _require(
            logits.dtype == np.float32 and logits.ndim == 2 and len(logits) == tokens,
            f"{name!r} has {logits.dtype} logits of shape {list(logits.shape)} for {tokens} tokens",
        )
        _require(bool(np.isfinite(logits).all()) and bool(logits.any()), f"{name!r} has logits that are no numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCheck:
    """How far this machine's logits are from a golden's, in units of the golden's largest logit.

    `max_abs_diff` is None where this machine's logits are not all numbers.
    """

    name: str
    max_abs_diff: float | None
    tolerance: float
    ok: bool


def record(session: "Session", questions: Sequence[GoldenQuestion], *, progress: Progress = silent) -> list[Golden]:
    """Ask and write down, all but the questions that do not fit the session's context.

    Raises `BundleError` for a bundle whose logits are not all numbers, and the session's own errors.
    """
    goldens = []
    with progress.task("ask", len(questions), "goldens") as advance:
        for question in questions:
            golden = _record_one(session, question)
            if golden is not None:
                goldens.append(golden)
            advance(1)
    return goldens


def save(goldens: Sequence[Golden], path: Path) -> None:
    """Write goldens into one file of plain arrays; the same goldens give the same bytes."""
    index = [
        {
            "name": golden.question.name,
            "prompt": golden.question.prompt,
            "think": golden.question.think,
            "pictures": len(golden.question.pictures),
        }
        for golden in goldens
    ]
    arrays: dict[str, npt.NDArray[Any]] = {"index": np.frombuffer(json.dumps(index).encode(), dtype=np.uint8)}
    for k, golden in enumerate(goldens):
        arrays[f"{k}.tokens"] = np.array(golden.token_ids, dtype=np.int32)
        arrays[f"{k}.logits"] = golden.logits
        for p, picture in enumerate(golden.question.pictures):
            arrays[f"{k}.picture.{p}"] = picture
    with zipfile.ZipFile(path, "w") as archive:  # as np.savez does, which in older versions takes any name for an array
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def find(bundle: Bundle) -> Path | None:
    """The file with a bundle's goldens: its own, or of an engine that was built from it; None if there is none."""
    if bundle.manifest.goldens is not None:
        return bundle.file(bundle.manifest.goldens)
    for engine in built_engines(bundle):
        if engine.record.goldens is not None:
            return engine.file(engine.record.goldens)
    return None


def load(bundle: Bundle) -> list[Golden]:
    """The goldens of a bundle, none if there are none. Raises `BundleError` for a file that does not hold together."""
    path = find(bundle)
    if path is None:
        return []
    name = path.name
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            index = json.loads(arrays["index"].tobytes())
            return [_read(arrays, k, entry, bundle) for k, entry in enumerate(index)]
    except BundleError as error:
        raise BundleError(f"{bundle.path}: {name}: {error.message}", remedy=error.remedy) from error
    except _UNREADABLE as error:
        raise BundleError(
            f"{bundle.path}: {name} holds no goldens: {error}", remedy="export the bundle again"
        ) from error


def check(bundle: Bundle, *, backend: str | None = None, progress: Progress = silent) -> list[GoldenCheck]:
    """Run every golden on this machine and compare the logits; `backend` as of `Session.open`."""
    from phiedge.runtime.session import Session

    context = min(GOLDENS_CONTEXT, bundle.manifest.max_context)
    with Session.open(bundle, max_context=context, backend=backend) as session:
        return compare(session, load(bundle), progress)


def compare(session: "Session", goldens: Sequence[Golden], progress: Progress = silent) -> list[GoldenCheck]:
    """Run every golden in an open session and compare the logits."""
    tolerance = _tolerance(session.bundle.manifest.precision, session.activations)
    rows = []
    with progress.task("compare", len(goldens), "goldens") as advance:
        for golden in goldens:
            found = _logits(session, golden.question, golden.token_ids)
            rows.append(_compare(golden, found, tolerance))
            advance(1)
    return rows


def _record_one(session: "Session", question: GoldenQuestion) -> Golden | None:
    try:
        said = session.generate(
            question.prompt, question.pictures, think=question.think, max_new_tokens=_TOKENS
        ).token_ids
    except ContextLengthError:  # only the session knows how long a prompt is
        return None
    return Golden(question=question, token_ids=said, logits=_logits(session, question, said))


def _logits(session: "Session", question: GoldenQuestion, said: Sequence[int]) -> npt.NDArray[np.float32]:
    return session.forced_logits(question.prompt, said[:-1], question.pictures, think=question.think)


def _compare(golden: Golden, found: npt.NDArray[np.float32], tolerance: float) -> GoldenCheck:
    name, wanted = golden.question.name, golden.logits
    if not np.isfinite(found).all():
        return GoldenCheck(name=name, max_abs_diff=None, tolerance=tolerance, ok=False)
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return GoldenCheck(name=name, max_abs_diff=difference, tolerance=tolerance, ok=difference <= tolerance)


def _tolerance(precision: Precision, activations: str) -> float:
    if precision.decoder == "float8":
        return _TOLERANCE_FLOAT8
    if precision.vision in VISION_EIGHT_BITS:
        return _TOLERANCE_VISION
    if precision.group_size is not None:
        return _TOLERANCE_GROUPED
    return _TOLERANCE_FLOAT16 if activations == "float16" else _TOLERANCE_FLOAT32


def _read(arrays: Any, k: int, entry: dict[str, Any], bundle: Bundle) -> Golden:
    pictures = tuple(arrays[f"{k}.picture.{p}"] for p in range(entry["pictures"]))
    question = GoldenQuestion(name=entry["name"], prompt=entry["prompt"], think=entry["think"], pictures=pictures)
    golden = Golden(question=question, token_ids=tuple(arrays[f"{k}.tokens"].tolist()), logits=arrays[f"{k}.logits"])
    vocab_size = bundle.manifest.facts.vocab_size
    _require(
        golden.logits.shape[1] == vocab_size,
        f"{question.name!r} has logits for {golden.logits.shape[1]} tokens, the model has {vocab_size}",
    )
    return golden


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise BundleError(f"the golden {message}", remedy="export the bundle again")
