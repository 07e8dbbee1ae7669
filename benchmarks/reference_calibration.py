"""What calibration gains on the reference model: accuracy on held-out questions, and how far next tokens move.

    python -m benchmarks.reference_calibration [--per-task 100] [--target cpu] [--keep]

The questions are those of `reference_accuracy`, the same for every row. "beside fp32" compares the next-token
distributions at every token of fp32's own answers, through ONNX Runtime as a bundle runs; "decoder alone" those of the
calibrated linears in float32, on held-out calibration samples, without the head and without activations of 8 bits.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.record import add_options, publish
from phiedge.bundle import Bundle
from phiedge.pipeline import export
from phiedge.pipeline.comparison import compare_logits
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, evaluate, held_out
from phiedge.runtime.session import Session

# Label, precision, calibration, method.
_ROWS = (
    ("fp32", "fp32", "none", "auto"),
    ("int4, round to nearest", "int4", "none", "auto"),
    ("int4, clipped", "int4", "builtin", "rtn"),
    ("int4, AWQ", "int4", "builtin", "awq"),
    ("int4, GPTQ", "int4", "builtin", "gptq"),
    ("int4, AWQ then GPTQ", "int4", "builtin", "awq+gptq"),
    ("int4, best of all", "int4", "builtin", "auto"),
    ("int4, GPTQ on 512 examples", "int4", "builtin:512", "gptq"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what calibration gains on the reference model.")
    parser.add_argument("--per-task", type=int, default=100, help="questions of each of the six tasks")
    parser.add_argument("--compared", type=int, default=50, help="of those, how many are compared with fp32")
    parser.add_argument("--target", default="cpu")
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {}
    answers: list[tuple[int, ...]] = []
    wanted: list[np.ndarray] = []
    questions = [(question.prompt, picture) for picture, question in held_out(options.compared)]
    with tempfile.TemporaryDirectory() as work:
        for place, (label, precision, calibration, method) in enumerate(_ROWS):
            bundle = export(
                target=options.target,
                precision=precision,
                calibration=calibration,
                method=method,
                output=Path(work) / str(place),
            )
            with Session.open(bundle, max_context=SUITE_CONTEXT, backend="onnxruntime") as session:
                score = evaluate(session, per_task=options.per_task).as_dict()
                if not answers:
                    answers = [session.generate(prompt, [picture]).token_ids for prompt, picture in questions]
                logits = [
                    session.forced_logits(prompt, answer[:-1], [picture])
                    for (prompt, picture), answer in zip(questions, answers, strict=True)
                ]
            if not wanted:
                wanted = logits
            agreement = compare_logits(np.concatenate(wanted), np.concatenate(logits))
            found[label] = score | {"beside fp32": asdict(agreement)} | _decoder_alone(bundle)
    settings = {"suite": SUITE, "per_task": options.per_task, "compared": options.compared, "target": options.target}
    publish(f"reference-calibration-{options.target}", settings, found, keep=options.keep)


def _decoder_alone(bundle: Bundle) -> dict[str, object]:
    report = json.loads((bundle.path / str(bundle.manifest.quantization)).read_bytes())
    if report["calibration"] is None:
        return {}
    return {"decoder alone": report["calibration"]["divergence"], "methods": [t["method"] for t in report["tensors"]]}


if __name__ == "__main__":
    main()
