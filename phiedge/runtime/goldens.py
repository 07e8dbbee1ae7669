"""Goldens: what a bundle answered where it was exported, stored in it, so that any machine can check that it still does.

A golden is a question, the tokens that the model said, and the logits before each of them. They are the bundle's own, at its own
precision: `phiedge verify` tells a damaged file or a wrong engine from rounding, not a good model from a bad one. How far the precision
is from the model's own weights stands in `quantization.json`.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from phiedge.bundle import Bundle
from phiedge.errors import BundleError
from phiedge.runtime.prompt import ThinkMode

if TYPE_CHECKING:
    from phiedge.runtime.session import Session

GOLDENS_FILE = "goldens.npz"
_TOKENS = 6  # of each answer: enough to go through the decode step several times
_CONTEXT = 2048

# Of the largest logit. Machines differ in the order of their sums; int4 kernels round activations to 8 bits, where a difference in
# the last place can cost a whole step.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2}
_TOLERANCE_GROUPED = 2e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """A question for a golden; `pictures` are uint8 arrays [h, w, 3] RGB."""

    name: str
    prompt: str
    pictures: tuple[npt.NDArray[np.uint8], ...] = ()
    think: ThinkMode = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A question, the tokens that were said, and the logits `[tokens, vocab]` that each was chosen from."""

    question: GoldenQuestion
    token_ids: tuple[int, ...]
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCheck:
    """How far this machine's logits are from a golden's, in units of the largest logit."""

    name: str
    max_abs_diff: float
    tolerance: float
    ok: bool


def record(session: "Session", questions: Sequence[GoldenQuestion]) -> list[Golden]:
    """Ask and write down."""
    goldens = []
    for question in questions:
        said = session.generate(
            question.prompt, question.pictures, think=question.think, max_new_tokens=_TOKENS
        ).token_ids
        goldens.append(Golden(question=question, token_ids=said, logits=_logits(session, question, said)))
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
    np.savez(path, **arrays)


def load(bundle: Bundle) -> list[Golden]:
    """The goldens of a bundle. Raises `BundleError` for a file that does not hold together."""
    name = bundle.manifest.goldens
    if name is None:
        return []
    try:
        with np.load(io.BytesIO(bundle.file(name).read_bytes()), allow_pickle=False) as arrays:
            index = json.loads(arrays["index"].tobytes())
            return [_read(arrays, k, entry) for k, entry in enumerate(index)]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BundleError(
            f"{bundle.path}: {name} holds no goldens: {error}", remedy="export the bundle again"
        ) from error


def check(bundle: Bundle) -> list[GoldenCheck]:
    """Run every golden on this machine and compare the logits."""
    from phiedge.runtime.session import Session

    goldens = load(bundle)
    context = min(_CONTEXT, max(dialect.max_context for dialect in bundle.manifest.dialects.values()))
    precision = bundle.manifest.precision
    tolerance = _TOLERANCE_GROUPED if precision.group_size else _TOLERANCE[precision.activations]
    rows = []
    with Session.open(bundle, max_context=context) as session:
        for golden in goldens:
            found = _logits(session, golden.question, golden.token_ids)
            difference = float(np.abs(found - golden.logits).max() / np.abs(golden.logits).max())
            rows.append(
                GoldenCheck(
                    name=golden.question.name, max_abs_diff=difference, tolerance=tolerance, ok=difference <= tolerance
                )
            )
    return rows


def _logits(session: "Session", question: GoldenQuestion, said: Sequence[int]) -> npt.NDArray[np.float32]:
    return session.forced_logits(question.prompt, said[:-1], question.pictures, think=question.think)


def _read(arrays: Any, k: int, entry: dict[str, Any]) -> Golden:
    pictures = tuple(arrays[f"{k}.picture.{p}"] for p in range(entry["pictures"]))
    question = GoldenQuestion(name=entry["name"], prompt=entry["prompt"], think=entry["think"], pictures=pictures)
    return Golden(question=question, token_ids=tuple(arrays[f"{k}.tokens"].tolist()), logits=arrays[f"{k}.logits"])
