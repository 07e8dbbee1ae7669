"""A cache in int8 beside one in float32: decode steps and chunks of a prompt against context, bytes, peak memory.

    python -m benchmarks.kv_cache --work DIR [--layers 4] [--rounds 5] [--keep]

A decoder of the 15B's width with a few layers of random weights in int4, written twice. Both are open in one process
and take turns at every context, so that what disturbs the one disturbs the other. Beside every step stands what the
machine needs at least to read the weights and the cache once. Caches are written before they are read: pages that were
never written are all the same page of zeros.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import bandwidth
from benchmarks.machine import peak_rss_bytes
from benchmarks.record import add_options, publish, summary
from phiedge.bundle import ModelFacts
from phiedge.devices.host import host
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import INT4
from phiedge.exporters.random_weights import open_random_weights
from phiedge.pipeline.contents import write_contents

CONTEXTS = (64, 512, 1024, 2048, 4096, 8192)
CHUNK_TOKENS = 256
_CAPACITY = max(CONTEXTS)
_GRAPH = "decoder.ort.onnx"
_TINY = Path(__file__).parents[1] / "tests" / "oracle" / "tiny" / "config.json"
_WIDTHS = {
    "hidden_size": 5120,
    "num_attention_heads": 40,
    "num_key_value_heads": 10,
    "intermediate_size": 17920,
    "dtype": "bfloat16",
}
CACHES: dict[str, str | None] = {"float32": None, "int8": "int8"}


def write(work: Path, layers: int) -> ModelFacts:
    """Write the decoder with either cache below `work`, or find both there; the facts of the model."""
    source_path = work / f"model-{layers}"
    source_path.mkdir(parents=True, exist_ok=True)
    config = json.loads(_TINY.read_text(encoding="utf-8")) | _WIDTHS | {"num_hidden_layers": layers}
    (source_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with open_random_weights(source_path, seed=0) as source:
        for name, cache in CACHES.items():
            directory = work / f"{name}-{layers}"
            if (directory / _GRAPH).exists():
                continue
            directory.mkdir(exist_ok=True)
            write_contents(
                source,
                replace(INT4, group_size=128, cache=cache),
                max_context=_CAPACITY,
                directory=directory,
                cache_scales=None if cache is None else _some_scales(source.config),
            )
        return source.config.facts()


def _some_scales(config: ModelConfig) -> CacheScales:
    """Scales that do for random weights: what is computed does not depend on numbers."""
    scales = np.full(config.num_kv_heads * config.head_dim, 0.03, np.float32)
    return CacheScales(layers=[(scales, scales)] * config.num_layers)


def open_decoder(work: Path, name: str, facts: ModelFacts, threads: int) -> OrtDecoder:
    """The decoder with one of the caches, every page of which is written."""
    graph = work / f"{name}-{facts.num_layers}" / _GRAPH
    decoder = OrtDecoder(graph, facts, threads=threads, capacity=_CAPACITY, cache_type=CACHES[name])
    for pair in decoder._cache.layers():
        for view in pair:
            view.fill(1)
    decoder.row[:] = np.random.default_rng(0).normal(size=facts.hidden_size)
    return decoder


def measure(decoders: dict[str, OrtDecoder], facts: ModelFacts, rounds: int, steps: int) -> dict[str, object]:
    """Milliseconds of a step and of a chunk at every context, by cache, in turns."""
    rows = np.random.default_rng(1).normal(size=(CHUNK_TOKENS, facts.hidden_size)).astype(np.float32)
    found: dict[str, object] = {}
    for context in CONTEXTS:
        step_ms: dict[str, list[float]] = {name: [] for name in decoders}
        chunk_ms: dict[str, list[float]] = {name: [] for name in decoders}
        for _ in range(rounds):
            for name, decoder in decoders.items():
                decoder.step(past=context - 1)
                for _ in range(steps):
                    begun_ns = time.perf_counter_ns()
                    decoder.step(past=context - 1)
                    step_ms[name].append((time.perf_counter_ns() - begun_ns) / 1e6)
        for _ in range(max(2, rounds // 2)):
            for name, decoder in decoders.items():
                begun_ns = time.perf_counter_ns()
                decoder.prefill(rows[: min(CHUNK_TOKENS, context)], past=max(0, context - CHUNK_TOKENS))
                chunk_ms[name].append((time.perf_counter_ns() - begun_ns) / 1e6)
        found[str(context)] = {
            name: {"step_ms": summary(step_ms[name]), "chunk_ms": summary(chunk_ms[name])} for name in decoders
        }
        print(context, {name: round(float(np.median(ms)), 2) for name, ms in step_ms.items()}, file=sys.stderr)
    return found


def with_limits(found: dict[str, object], decoders: dict[str, OrtDecoder], weights_bytes: int, gbps: float) -> None:
    """Put beside every step what reading weights and cache takes at the machine's bandwidth."""
    for context, of_context in found.items():
        assert isinstance(of_context, dict)
        for name, decoder in decoders.items():
            cache_bytes = decoder.cache_bytes // decoder.capacity * int(context)
            of_context[name]["cache_bytes"] = cache_bytes
            of_context[name]["limit_ms"] = round((weights_bytes + cache_bytes) / gbps / 1e6, 3)


def peak_bytes(options: argparse.Namespace, name: str) -> int:
    """What a process of its own has resident at most that opens one decoder and takes steps at the full context."""
    command = [sys.executable, "-m", "benchmarks.kv_cache", "--work", str(options.work), "--as-worker", name]
    command += ["--layers", str(options.layers), "--threads", str(options.threads)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def work_alone(options: argparse.Namespace, facts: ModelFacts) -> None:
    decoder = open_decoder(options.work, options.as_worker, facts, options.threads)
    for _ in range(3):
        decoder.step(past=_CAPACITY - 1)
    print(peak_rss_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a cache in int8 beside one in float32.")
    parser.add_argument("--work", type=Path, required=True, help="where the decoders are written, or were")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of one cache before it is the other's turn")
    parser.add_argument("--as-worker", choices=list(CACHES), help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    facts = write(options.work, options.layers)
    if options.as_worker:
        work_alone(options, facts)
        return
    peaks = {name: peak_bytes(options, name) for name in CACHES}
    gbps = bandwidth.best(bandwidth.measure(threads=options.threads))
    decoders = {name: open_decoder(options.work, name, facts, options.threads) for name in CACHES}
    found = measure(decoders, facts, options.rounds, options.steps)
    weights_bytes = (options.work / f"int8-{options.layers}" / "decoder.data").stat().st_size
    with_limits(found, decoders, weights_bytes, gbps)
    results = {
        "read_gbps": gbps,
        "weights_bytes": weights_bytes,
        "capacity_bytes": {name: decoder.cache_bytes for name, decoder in decoders.items()},
        "peak_rss_bytes": peaks,
        "load_average_1m_after": host().load_average_1m,
        "contexts": found,
    }
    settings = {"layers": options.layers, "threads": options.threads, "rounds": options.rounds, "steps": options.steps}
    publish("kv-cache", settings | {"chunk_tokens": CHUNK_TOKENS}, results, keep=options.keep)


if __name__ == "__main__":
    main()
