"""What a precision costs, measured end to end: the bundle's logits and answers beside those of the same checkpoint at fp32."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.progress import Progress, silent
from phiedge.reference.evaluate import SUITE, evaluate
from phiedge.runtime.goldens import Golden
from phiedge.runtime.session import Session

QUESTIONS_PER_TASK = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitAgreement:
    """Over `positions` next-token distributions: cosine of the logits, KL(fp32 || quantised) in nats, equal most likely token."""

    positions: int
    cosine_mean: float
    cosine_min: float
    kl_mean: float
    kl_max: float
    top1_agreement: float


def compare_logits(wanted: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> LogitAgreement:
    """Compare `[positions, vocab]` logits with each other, in float64."""
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


def end_to_end(quantised: Session, goldens: Sequence[Golden], fp32: Session) -> dict[str, Any]:
    """The agreement of two sessions on the tokens of the goldens, as JSON values."""
    pairs = []
    for golden in goldens:
        asked, said = golden.question, golden.token_ids[:-1]
        pairs.append(
            [s.forced_logits(asked.prompt, said, asked.pictures, think=asked.think) for s in (fp32, quantised)]
        )
    wanted, found = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return asdict(compare_logits(wanted, found))


def task_accuracy(quantised: Session, fp32: Session, *, progress: Progress = silent) -> dict[str, Any]:
    """The reference model's held-out accuracy in both precisions, on the same questions, as JSON values."""
    scores = [evaluate(session, per_task=QUESTIONS_PER_TASK, progress=progress) for session in (fp32, quantised)]
    full, small = (score.as_dict() for score in scores)
    return {
        "suite": SUITE,
        "asked": scores[0].asked,
        "fp32": full["overall"],
        "quantised": small["overall"],
        "chance": full["chance"],
        "fp32_tasks": full["tasks"],
        "quantised_tasks": small["tasks"],
    }


def _log_softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = values - values.max(1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def _short(value: float) -> float:
    """Six significant digits: what lies below is rounding of the machine, and reports should not differ by it."""
    return float(f"{float(value):.6g}")
