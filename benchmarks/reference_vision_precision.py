"""What a vision encoder in 8 bits costs the reference model and gives it, through the real export.

    python -m benchmarks.reference_vision_precision --bundles DIR [--parts make answers time] [--per-task 100] [--keep]

Bundles differ in `--vision-precision` alone; the decoder is fp32 for a CPU and fp16 for a GPU, which has fp8.
`make` exports those that DIR lacks, `answers` asks all the same held-out questions, each beside the same decoder with
its encoder in floats, and `time` measures one picture through each encoder, in turns: no CPU multiplies fp8, so it is
not among them. Parts that were kept today stay.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.record import add_options, kept_today, publish, summary
from benchmarks.reference_eight_bits import beside, right_answers
from phiedge.bundle import Bundle
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.pipeline import export
from phiedge.reference.evaluate import SUITE

# Label, target, precision, what vision is, and the label of what it stands beside.
_ROWS = (
    ("float, decoder fp32", "cpu", "fp32", "float", None),
    ("int8, decoder fp32", "cpu", "fp32", "int8", "float, decoder fp32"),
    ("float, decoder fp16", "rtx-4090", "fp16", "float", None),
    ("int8, decoder fp16", "rtx-4090", "fp16", "int8", "float, decoder fp16"),
    ("fp8, decoder fp16", "rtx-4090", "fp16", "fp8", "float, decoder fp16"),
)
_PARTS = ("make", "answers", "time")
_TIMED = 2  # the first rows, for a CPU
_PATCHES, _TURNS, _THREADS = (256, 1024), 60, 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a vision encoder in 8 bits on the reference model.")
    parser.add_argument("--bundles", type=Path, required=True, help="where the bundles are, or are to be")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--per-task", type=int, default=100, help="questions of each of the six tasks")
    add_options(parser)
    options = parser.parse_args()
    settings = {"suite": SUITE, "per_task": options.per_task, "threads": _THREADS, "turns": _TURNS}
    found = kept_today("reference-vision-precision", settings)
    if "make" in options.parts:
        make(options.bundles)
    if "answers" in options.parts:
        found = found | {"answers": answers(options.bundles, options.per_task)}
    if "time" in options.parts:
        found = found | {"time": times(options.bundles)}
    publish("reference-vision-precision", settings, found, keep=options.keep)


def make(directory: Path) -> None:
    """Export what is not there."""
    for label, target, precision, vision, _ in _ROWS:
        if not _path(directory, label).exists():
            export(target=target, precision=precision, vision_precision=vision, output=_path(directory, label))


def answers(directory: Path, per_task: int) -> dict[str, object]:
    """How each bundle answers, and what its report says of its features."""
    right = {label: right_answers(_bundle(directory, label), per_task=per_task) for label, *_ in _ROWS}
    return {
        label: {
            "overall": round(sum(right[label]) / len(right[label]), 5),
            "asked": len(right[label]),
            "vision_bytes": _bundle(directory, label).manifest.files["vision.data"].bytes,
            "feature_error": _feature_error(_bundle(directory, label)),
            "beside": None if other is None else beside(right[other], right[label]),
        }
        for label, _, _, _, other in _ROWS
    }


def times(directory: Path) -> dict[str, object]:
    """Milliseconds of one picture through each encoder that a CPU multiplies, in turns."""
    rng = np.random.default_rng(0)
    found: dict[str, object] = {}
    for patches in _PATCHES:
        encoders = {}
        for label, *_ in _ROWS[:_TIMED]:
            bundle = _bundle(directory, label)
            facts = bundle.manifest.facts
            graph = bundle.file(bundle.manifest.dialects["ort"].vision)
            shown = (
                rng.uniform(-1, 1, (patches, 3 * facts.patch_size**2)).astype(np.float32),
                rng.normal(0, 0.1, (patches, facts.vision_hidden_size)).astype(np.float32),
                np.empty((patches, facts.hidden_size), np.float32),
            )
            encoders[label] = OrtVision(graph, facts, threads=_THREADS), shown
        taken: dict[str, list[float]] = {label: [] for label in encoders}
        for _ in range(_TURNS):
            for label, (encoder, shown) in encoders.items():
                begun_ns = time.perf_counter_ns()
                encoder.encode(*shown)
                taken[label].append((time.perf_counter_ns() - begun_ns) / 1e6)
        found[str(patches)] = {label: summary(samples[3:]) for label, samples in taken.items()}
    return found


def _path(directory: Path, label: str) -> Path:
    return directory / label.replace(", ", "-").replace(" ", "-")


def _bundle(directory: Path, label: str) -> Bundle:
    return Bundle.open(_path(directory, label))


def _feature_error(bundle: Bundle) -> float | None:
    told = json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())["vision"]
    return None if told is None else float(told["features_error"])


if __name__ == "__main__":
    main()
