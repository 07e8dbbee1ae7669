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

# Label, target and precision of the export, mode, what is done to the picture.
_ROWS: tuple[tuple[str, str, str, Think, Disturbance], ...] = (
    ("fp32", "cpu", "fp32", "auto", "none"),
    ("fp32, answering at once", "cpu", "fp32", "off", "none"),
    ("fp32, thinking", "cpu", "fp32", "on", "none"),
    ("int4, groups of 32 (cpu)", "cpu", "int4", "auto", "none"),
    ("int4, groups of 128 (orin)", "orin", "int4", "auto", "none"),
    ("fp32, picture blanked", "cpu", "fp32", "auto", "blank"),
    ("fp32, picture swapped", "cpu", "fp32", "auto", "swap"),
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
        for label, target, precision, think, disturbance in _ROWS:
            if (target, precision) not in bundles:
                output = Path(work) / f"{target}-{precision}"
                bundles[target, precision] = export(
                    options.model, target=target, precision=precision, output=output
                ).path
            with Session.open(bundles[target, precision], max_context=SUITE_CONTEXT) as session:
                score = evaluate(session, per_task=options.per_task, think=think, disturbance=disturbance)
            found[label] = score.as_dict()
    publish("reference-accuracy", {"suite": SUITE, "per_task": options.per_task}, found, keep=options.keep)


if __name__ == "__main__":
    main()
