"""How good the reference model is, in each precision and mode, and that it looks at the picture.

    python -m benchmarks.reference_accuracy [--per-task 100] [--model DIR] [--keep]

Everything goes through `phiedge.pipeline.export` and `phiedge.Session`, on held-out questions, the same for every row.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.record import add_options, publish
from phiedge.pipeline import export
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, Disturbance, Think, evaluate
from phiedge.runtime.session import Session

# Label, precision of the export, backend, mode, what is done to the picture.
_ROWS: tuple[tuple[str, str, str, Think, Disturbance], ...] = (
    ("fp32", "fp32", "onnxruntime", "auto", "none"),
    ("fp32, answering at once", "fp32", "onnxruntime", "off", "none"),
    ("fp32, thinking", "fp32", "onnxruntime", "on", "none"),
    ("int4, groups of 128", "int4", "onnxruntime", "auto", "none"),
    ("int4, groups of 128, on OpenVINO", "int4", "openvino", "auto", "none"),
    ("fp32, picture blanked", "fp32", "onnxruntime", "auto", "blank"),
    ("fp32, picture swapped", "fp32", "onnxruntime", "auto", "swap"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the reference model's accuracy.")
    parser.add_argument("--per-task", type=int, default=100, help="questions of each of the six tasks")
    parser.add_argument("--model", default="reference")
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as work:
        bundles: dict[str, Path] = {}
        for label, precision, backend, think, disturbance in _ROWS:
            if precision not in bundles:
                output = Path(work) / precision
                bundles[precision] = export(options.model, target="cpu", precision=precision, output=output).path
            with Session.open(bundles[precision], max_context=SUITE_CONTEXT, backend=backend) as session:
                score = evaluate(session, per_task=options.per_task, think=think, disturbance=disturbance)
            found[label] = score.as_dict()
    publish("reference-accuracy", {"suite": SUITE, "per_task": options.per_task}, found, keep=options.keep)


if __name__ == "__main__":
    main()
