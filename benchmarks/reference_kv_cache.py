"""What a cache in int8 costs the reference model: answers, and logits beside the same weights with a float cache.

    python -m benchmarks.reference_kv_cache [--per-task 100] [--precisions fp32,int4] [--keep]

Everything goes through `phiedge.pipeline.export` and `phiedge.Session`, so through ONNX Runtime's own kernels. Logits
are compared while both are given the same tokens, those that the model with the float cache says itself.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.record import add_options, publish
from phiedge.pipeline import export
from phiedge.pipeline.comparison import compare_logits
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, evaluate, held_out
from phiedge.runtime.session import Session

CACHES = ("float", "int8")


def compare(float_cache: Session, int8_cache: Session, *, questions: int) -> dict[str, object]:
    """Logits of both on the answers to held-out questions, with the relative error of the whole."""
    wanted, found = [], []
    for picture, question in islice(held_out(max(2, questions // 6)), questions):
        said = float_cache.generate(question.prompt, [picture], max_new_tokens=48).token_ids
        for session, rows in ((float_cache, wanted), (int8_cache, found)):
            rows.append(session.forced_logits(question.prompt, said[:-1], [picture]))
    a, b = np.concatenate(wanted), np.concatenate(found)
    error = float(np.linalg.norm(b - a) / np.linalg.norm(a))
    return asdict(compare_logits(a, b)) | {"relative_error": float(f"{error:.4g}")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a cache in int8 costs the reference model.")
    parser.add_argument("--per-task", type=int, default=100, help="questions of each of the six tasks")
    parser.add_argument("--compared", type=int, default=120, help="questions on whose answers logits are compared")
    parser.add_argument("--precisions", default="fp32,int4")
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as work:
        for precision in options.precisions.split(","):
            bundles = {
                cache: export(target="cpu", precision=precision, kv_cache=cache, output=Path(work, precision, cache))
                for cache in CACHES
            }
            scores = {}
            for cache, bundle in bundles.items():
                with Session.open(bundle, max_context=SUITE_CONTEXT) as session:
                    scores[cache] = evaluate(session, per_task=options.per_task).as_dict()
                print(precision, cache, scores[cache]["overall"], flush=True)
            with (
                Session.open(bundles["float"], max_context=SUITE_CONTEXT) as float_cache,
                Session.open(bundles["int8"], max_context=SUITE_CONTEXT) as int8_cache,
            ):
                logits = compare(float_cache, int8_cache, questions=options.compared)
            report = json.loads((bundles["int8"].path / "quantization.json").read_text(encoding="utf-8"))
            found[precision] = {
                "accuracy": scores,
                "of_float": round(scores["int8"]["overall"] / scores["float"]["overall"], 4),
                "logits": logits,
                "scales": {key: report["kv_cache"][key] for key in ("data", "samples", "rows", "graph_scales")},
            }
    settings = {"suite": SUITE, "per_task": options.per_task, "compared": options.compared}
    publish("reference-kv-cache", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
