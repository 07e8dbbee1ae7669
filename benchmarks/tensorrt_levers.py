"""What changes the memory and the time that TensorRT-RTX takes to build a decoder, and what does not.

    python -m benchmarks.tensorrt_levers [--layers 2] [--keep]

A decoder of the published width with random weights at int4 is built in several ways, each by a process of its own: as
`phiedge build` does it, and with one thing changed. Nothing runs on a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.record import add_options, publish
from benchmarks.tensorrt_build import OwnPages
from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import choose_precision
from phiedge.exporters.random_weights import open_random_weights
from tests.support.published import PUBLISHED_CONFIG

CONTEXT, CHUNK = 4096, 256
ONE_ARENA = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to build: settings of the worker's request, and of its environment."""

    name: str
    settings: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


WAYS = (
    Way(name="as `phiedge build` does"),
    Way(name="one profile, a row", settings={"profiles": [1]}),
    Way(name="one profile, a chunk", settings={"profiles": [CHUNK]}),
    Way(name="weights from mapped memory", settings={"mapped": True}),
    Way(name="engine streamed to the file", settings={"streamed": True}),
    Way(name="malloc: one arena, given back early", environment=ONE_ARENA),
    Way(name="optimisation level 0", settings={"level": 0}),
    Way(name="optimisation level 5", settings={"level": 5}),
    Way(name="two threads, where one is usual", settings={"threads": 2}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a decoder with TensorRT-RTX in several ways.")
    parser.add_argument("--layers", type=int, default=2)
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        graph = _write(Path(work), options.layers)
        found = {way.name: _build(graph, way) for way in WAYS}
    settings = {"layers": options.layers, "context": CONTEXT, "chunk_tokens": CHUNK, "sm": [89]}
    publish("tensorrt-levers", settings, found, keep=options.keep)


def _write(directory: Path, layers: int) -> Path:
    config, graphs = directory / "config", directory / "graphs"
    config.mkdir()
    graphs.mkdir()
    text = json.dumps({**PUBLISHED_CONFIG, "num_hidden_layers": layers})
    (config / "config.json").write_text(text, encoding="utf-8")
    source = open_random_weights(config, seed=0)
    write_graphs(
        source,
        precision=choose_precision("int4", sm=89).plan,
        dialects=("ort", "tensorrt"),
        max_context=CONTEXT,
        out_dir=graphs,
        quantiser=RoundToNearest(),
    )
    source.close()
    return graphs / "decoder.tensorrt.onnx"


def _build(graph: Path, way: Way) -> dict[str, Any]:
    engine = graph.with_name("decoder.engine")
    request = {"graph": str(graph), "engine": str(engine), "sm": [89], "profiles": [1, CHUNK], **way.settings}
    command = [sys.executable, "-m", "benchmarks.tensorrt_worker", json.dumps(request)]
    with OwnPages() as pages:
        finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **way.environment})
    if finished.returncode:
        raise SystemExit(f"{way.name}: {finished.stderr.strip()}")
    engine.unlink()
    print(way.name, pages.peak_bytes, finished.stdout.strip(), file=sys.stderr)
    return {**json.loads(finished.stdout), "peak_anonymous_bytes": pages.peak_bytes}


if __name__ == "__main__":
    main()
