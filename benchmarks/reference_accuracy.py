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

# Label, target and precision of the export, backend, mode, what is done to the picture.
_ROWS: tuple[tuple[str, str, str, str, Think, Disturbance], ...] = (
    ("fp32", "cpu", "fp32", "onnxruntime", "auto", "none"),
    ("fp32, answering at once", "cpu", "fp32", "onnxruntime", "off", "none"),
    ("fp32, thinking", "cpu", "fp32", "onnxruntime", "on", "none"),
    ("int4, groups of 128", "cpu", "int4", "onnxruntime", "auto", "none"),
    ("int4, groups of 128, on OpenVINO", "cpu", "int4", "openvino", "auto", "none"),
    ("int4 for a GPU: the head, too", "orin", "int4", "onnxruntime", "auto", "none"),
    ("fp32, picture blanked", "cpu", "fp32", "onnxruntime", "auto", "blank"),
    ("fp32, picture swapped", "cpu", "fp32", "onnxruntime", "auto", "swap"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the reference model's accuracy.")
    parser.add_argument("--per-task", type=int, default=100, help="questions of each of the six tasks")
    parser.add_argument("--model", default="reference")
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as work:
        bundles: dict[tuple[str, str], Path] = {}
        for label, target, precision, backend, think, disturbance in _ROWS:
            made = target, precision
            if made not in bundles:
                output = Path(work) / "-".join(made)
                bundles[made] = export(options.model, target=target, precision=precision, output=output).path
            with Session.open(bundles[made], max_context=SUITE_CONTEXT, backend=backend) as session:
                score = evaluate(session, per_task=options.per_task, think=think, disturbance=disturbance)
            found[label] = score.as_dict()
    publish("reference-accuracy", {"suite": SUITE, "per_task": options.per_task}, found, keep=options.keep)


if __name__ == "__main__":
    main()
