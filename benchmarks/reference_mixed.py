"""The reference model in several sizes: more bits for the linears that need them most, and what next tokens gain.

    python -m benchmarks.reference_mixed [--compared 50] [--keep]

Sizes are those of the curve in the report of the bundle that has 4 bits everywhere. "KL from fp32" is at every token
of fp32's own answers, through ONNX Runtime, with activations of 8 bits and the head; the curve's own number is of the
linears alone, on held-out calibration samples.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import add_options, publish
from phiedge.bundle import Bundle
from phiedge.pipeline import export
from phiedge.pipeline.comparison import compare_logits
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, held_out
from phiedge.runtime.session import Session


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what more bytes buy on the reference model.")
    parser.add_argument("--compared", type=int, default=50, help="questions of each of the six tasks")
    parser.add_argument("--target", default="cpu")
    add_options(parser)
    options = parser.parse_args()
    questions = [(question.prompt, picture) for picture, question in held_out(options.compared)]
    with tempfile.TemporaryDirectory() as work:
        fp32 = export(target=options.target, precision="fp32", output=Path(work) / "fp32")
        with _opened(fp32) as session:
            answers = [session.generate(prompt, [picture]).token_ids for prompt, picture in questions]
        wanted = _logits(fp32, questions, answers)
        first = export(target=options.target, precision="int4", calibration="builtin", output=Path(work) / "0")
        curve = _report(first)["sensitivity"]["curve"]
        sizes = [_measured(first, curve[0], questions, answers, wanted)]
        for number, point in enumerate(curve[1:], start=1):
            bundle = export(
                target=options.target,
                precision="int4",
                calibration="builtin",
                linears_mb=point["linears_bytes"] / 1e6,
                output=Path(work) / str(number),
            )
            sizes.append(_measured(bundle, point, questions, answers, wanted))
    settings = {"suite": SUITE, "compared": options.compared, "target": options.target}
    publish(f"reference-mixed-{options.target}", settings, {"sizes": sizes}, keep=options.keep)


def _opened(bundle: Bundle) -> Session:
    return Session.open(bundle, max_context=SUITE_CONTEXT, backend="onnxruntime")


def _logits(bundle: Bundle, questions: list[Any], answers: list[tuple[int, ...]]) -> np.ndarray:
    with _opened(bundle) as session:
        return np.concatenate(
            [
                session.forced_logits(prompt, answer[:-1], [picture])
                for (prompt, picture), answer in zip(questions, answers, strict=True)
            ]
        )


def _measured(
    bundle: Bundle, point: dict[str, Any], questions: list[Any], answers: list[tuple[int, ...]], wanted: np.ndarray
) -> dict[str, Any]:
    mixed = _report(bundle)["mixed"]
    assert sorted(mixed["wider"] if mixed else []) == sorted(point["wider"]), (
        "the export chose otherwise than its curve"
    )
    return {
        "linears_bytes": point["linears_bytes"],
        "wider": len(point["wider"]),
        "kl_of_curve": point["kl_mean"],
        "beside fp32": asdict(compare_logits(wanted, _logits(bundle, questions, answers))),
    }


def _report(bundle: Bundle) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())
    return report


if __name__ == "__main__":
    main()
