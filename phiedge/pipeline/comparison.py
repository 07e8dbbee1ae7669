"""What a precision costs, measured end to end: its logits and answers beside those of the same checkpoint at fp32."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from phiedge.progress import Labelled, Progress, silent
from phiedge.reference.evaluate import SUITE, evaluate
from phiedge.runtime.goldens import Golden
from phiedge.runtime.session import Session

QUESTIONS_PER_TASK = 20
_Logits: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitAgreement:
    """Over `positions` next tokens: cosine of the logits, KL(fp32 || other) in nats, same likeliest token."""

    positions: int
    cosine_mean: float
    cosine_min: float
    kl_mean: float
    kl_max: float
    top1_agreement: float


def compare_logits(wanted: _Logits, found: _Logits) -> LogitAgreement:
    """Compare `[positions, vocab]` logits with each other, in float64."""
    assert wanted.shape == found.shape, (wanted.shape, found.shape)
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    log_a, log_b = _log_softmax(a), _log_softmax(b)
    kl = (np.exp(log_a) * (log_a - log_b)).sum(1)
    return LogitAgreement(
        positions=len(a),
        cosine_mean=_short(cosine.mean()),
        cosine_min=_short(cosine.min()),
        kl_mean=_short(kl.mean()),
        kl_max=_short(kl.max()),
        top1_agreement=_short((a.argmax(1) == b.argmax(1)).mean()),
    )


def end_to_end(
    quantised: Session, goldens: Sequence[Golden], fp32: Session, *, progress: Progress = silent
) -> dict[str, Any]:
    """The agreement of two sessions on the tokens of the goldens, as JSON values."""
    wanted, found = (_forced(session, goldens, _labelled(progress, session)) for session in (fp32, quantised))
    return asdict(compare_logits(wanted, found))


def task_accuracy(quantised: Session, fp32: Session, *, progress: Progress = silent) -> dict[str, Any]:
    """The reference model's held-out accuracy in both precisions, on the same questions, as JSON values."""
    full, small = (
        evaluate(session, per_task=QUESTIONS_PER_TASK, progress=_labelled(progress, session)).as_dict()
        for session in (fp32, quantised)
    )
    return {
        "suite": SUITE,
        "asked": full["asked"],
        "fp32": full["overall"],
        "quantised": small["overall"],
        "chance": full["chance"],
        "fp32_tasks": full["tasks"],
        "quantised_tasks": small["tasks"],
    }


def _forced(session: Session, goldens: Sequence[Golden], progress: Progress) -> _Logits:
    """The logits `[positions, vocab]` before every token of every golden."""
    rows = []
    with progress.task("compare", len(goldens), "goldens") as advance:
        for golden in goldens:
            asked = golden.question
            rows.append(session.forced_logits(asked.prompt, golden.token_ids[:-1], asked.pictures, think=asked.think))
            advance(1)
    return np.concatenate(rows)


def _labelled(progress: Progress, session: Session) -> Progress:
    return Labelled(progress=progress, label=session.bundle.manifest.precision.name)


def _log_softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = values - values.max(1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def _short(value: float) -> float:
    """Six significant digits: what lies below is rounding of the machine, and reports should not differ by it."""
    return float(f"{float(value):.6g}")
