"""What 8-bit floats cost the reference model, through the real export: accuracy, question by question beside fp32.

    python -m benchmarks.reference_eight_bits [--per-task 1000] [--keep]

Each row is a bundle as `phiedge export` writes it, on ONNX Runtime, which rounds inputs and weights of the decoder's
linears as TensorRT does and multiplies in float32. All rows answer the same held-out questions, so what counts is on
how many of them a row and fp32 disagree: some hundred questions say nothing of two tenths of a percent.
The divergence is the calibration's own, of the decoder alone on held-out samples.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import add_options, publish
from phiedge.bundle import Bundle
from phiedge.pipeline import export
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, held_out
from phiedge.runtime.session import Session

# Label, target, precision, calibration, method, what has a scale.
_ROWS = (
    ("fp32", "cpu", "fp32", "none", "auto", "row"),
    ("fp8, rounded to nearest", "rtx-4090", "fp8", "builtin", "rtn", "row"),
    ("fp8, best of all", "rtx-4090", "fp8", "builtin", "auto", "row"),
    ("fp8, one scale for a weight", "rtx-4090", "fp8", "builtin", "auto", "tensor"),
)
_MOST_TOKENS = 160  # the longest chain of thought that is trained, and room


def right_answers(bundle: Bundle, *, per_task: int) -> list[bool]:
    """Which of the held-out questions the bundle answers right, in order."""
    with Session.open(bundle, max_context=SUITE_CONTEXT, backend="onnxruntime") as session:
        return [
            question.accepts(session.generate(question.prompt, [picture], max_new_tokens=_MOST_TOKENS).answer)
            for picture, question in held_out(per_task)
        ]


def beside(wanted: Sequence[bool], found: Sequence[bool]) -> dict[str, object]:
    """The paired comparison: what was lost, what was won, and how likely that is where nothing was changed.

    `p` is of the exact two-sided sign test; `of_it_low` and `of_it_high` are 95 percent about the share of fp32's
    accuracy, by the variance of the differences.
    """
    lost = sum(a and not b for a, b in zip(wanted, found, strict=True))
    won = sum(b and not a for a, b in zip(wanted, found, strict=True))
    total, split = len(wanted), lost + won
    tail = sum(math.comb(split, k) for k in range(min(lost, won) + 1)) / 2**split
    margin = 1.96 * math.sqrt(max(split - (won - lost) ** 2 / total, 0)) / sum(wanted)
    share = sum(found) / sum(wanted)
    return {
        "lost": lost,
        "won": won,
        "p": round(min(1.0, 2 * tail), 3),
        "of_it": round(share, 5),
        "of_it_low": round(share - margin, 5),
        "of_it_high": round(share + margin, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what 8-bit floats cost the reference model.")
    parser.add_argument("--per-task", type=int, default=1000, help="questions of each of the six tasks")
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {}
    wanted: list[bool] = []
    with tempfile.TemporaryDirectory() as work:
        for place, (label, target, precision, calibration, method, weight_scales) in enumerate(_ROWS):
            bundle = export(
                target=target,
                precision=precision,
                calibration=calibration,
                method=method,
                weight_scales=weight_scales,
                output=Path(work) / str(place),
            )
            right = right_answers(bundle, per_task=options.per_task)
            wanted = wanted or right
            accuracy = {"overall": round(sum(right) / len(right), 5), "asked": len(right)}
            found[label] = accuracy | {"beside fp32": beside(wanted, right)} | _told(bundle)
            print(label, found[label], flush=True)
    publish("reference-eight-bits", {"suite": SUITE, "per_task": options.per_task}, found, keep=options.keep)


def _told(bundle: Bundle) -> dict[str, object]:
    """What the bundle's report says of its calibration."""
    calibration = json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())["calibration"]
    if calibration is None:
        return {}
    linears = [linear for layer in calibration["layers"] for linear in layer["linears"]]
    return {
        "divergence": calibration["divergence"],
        "rules": [linear["input_scale"]["rule"] for linear in linears],
        "methods": [linear["method"] for linear in linears],
        "errors": [linear["errors"] for linear in linears],
    }


if __name__ == "__main__":
    main()
