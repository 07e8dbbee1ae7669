"""What `phiedge build --backend edge-llm` costs at the published width, by the number of layers.

    python -m benchmarks.edge_llm_export PYTHON --work DIRECTORY [--layers 1 2] [--vocabulary 100352] [--keep]

PYTHON is of an environment with `tensorrt-edgellm[export]` in the release that phiedge knows. For each number of layers
a checkpoint with random weights becomes a bundle, and the bundle what Edge-LLM takes, whole: exporter, structure, every
weight, features and logits. The exporter's peak is the kernel's count of that process; phiedge's own is beside it. The
40 layers are told by the difference that one makes, and beside what phiedge asks for before it begins.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.export_full_size import Phases
from benchmarks.random_checkpoint import write_published
from benchmarks.record import add_options, publish
from tests.support.published import PUBLISHED_CONFIG

LAYERS = 40
_VISION_LAYERS = 2  # the last of them is not used


def work(bundle: Path, python: Path) -> None:
    """The build, in a process of its own; prints what it found about itself and about the exporter."""
    from phiedge.bundle import Bundle
    from phiedge.engines.edge_llm.memory_need import exporter_bytes
    from phiedge.engines.edge_llm.tool import ExporterChoice
    from phiedge.pipeline import build

    phases = Phases()
    begun_ns = time.perf_counter_ns()
    (engine,) = build(bundle, backend="edge-llm", exporter=ExporterChoice(python=python), progress=phases)
    facts = Bundle.open(bundle).manifest.facts
    found = {
        "build_s": round((time.perf_counter_ns() - begun_ns) / 1e9, 1),
        "phases_s": phases.seconds,
        "exporter_peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "own_peak_bytes": machine.peak_rss_bytes(),
        "asked_for_bytes": exporter_bytes(facts),
        "asked_for_40_layers_bytes": exporter_bytes(replace(facts, num_layers=LAYERS)),
        "engine_bytes": sum(entry.bytes for entry in engine.record.files.values()),
        "cosine": float(engine.record.options["cosine of logits"]),
        "features": float(engine.record.options["distance of features"]),
    }
    print(json.dumps(found))


def add_unused_token(path: Path) -> None:
    """The publisher's tokenizer has tokens that nothing uses, one of which becomes the picture's; the stand-in none."""
    tokenizer = json.loads(path.read_bytes())
    added, vocabulary = tokenizer["added_tokens"], tokenizer["model"]["vocab"]
    names = {entry["content"] for entry in added}
    last = max((name for name in vocabulary if name not in names), key=vocabulary.__getitem__)
    number = vocabulary["<|dummy_0|>"] = vocabulary.pop(last)
    flags = {"lstrip": True, "normalized": False, "rstrip": True, "single_word": False, "special": True}
    added.append({"content": "<|dummy_0|>", "id": number, **flags})
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def measure(layers: int, *, vocabulary: int, python: Path, directory: Path) -> dict[str, Any]:
    """One build at `layers` layers."""
    from phiedge.pipeline import export

    vision = dict(PUBLISHED_CONFIG["vision_config"]) | {"num_hidden_layers": _VISION_LAYERS}
    config = dict(PUBLISHED_CONFIG) | {"num_hidden_layers": layers, "vision_config": vision}
    if vocabulary != config["vocab_size"]:
        tokens = {"bos_token_id": 10, "eos_token_id": 20, "pad_token_id": 30}
        config |= {"vocab_size": vocabulary} | {key: tokens[key] for key in tokens if key in config}
    checkpoint, bundle = directory / f"checkpoint-{layers}", directory / f"bundle-{layers}"
    write_published(checkpoint, config)
    add_unused_token(checkpoint / "tokenizer.json")
    export(str(checkpoint), target="orin", precision="int4", calibration="none", output=bundle)
    shutil.rmtree(checkpoint)
    command = [sys.executable, "-m", "benchmarks.edge_llm_export", str(python), "--work", str(bundle), "--as-worker"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(bundle)
    found: dict[str, Any] = json.loads(finished.stdout)
    return {"layers": layers, "load_1_min": round(os.getloadavg()[0], 1), **found}


def by_layer(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What a layer adds, and all 40 from it."""
    told = {}
    for fewer, more in pairwise(rows):
        count = more["layers"] - fewer["layers"]
        for name in ("exporter_peak_bytes", "build_s"):
            layer = (more[name] - fewer[name]) / count
            told[f"layer_{name}"] = round(layer, 1)
            told[f"{LAYERS}_layers_{name}"] = round(more[name] + (LAYERS - more["layers"]) * layer, 1)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the build for Edge-LLM at the published width.")
    parser.add_argument("python", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--vocabulary", type=int, default=PUBLISHED_CONFIG["vocab_size"])
    parser.add_argument("--as-worker", action="store_true", help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.as_worker:
        work(options.work, options.python)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    rows = [
        measure(layers, vocabulary=options.vocabulary, python=options.python.absolute(), directory=options.work)
        for layers in options.layers
    ]
    settings = {"layers": options.layers, "vocabulary": options.vocabulary}
    publish("edge-llm-export", settings, {"runs": rows, "told": by_layer(rows)}, keep=options.keep)


if __name__ == "__main__":
    main()
