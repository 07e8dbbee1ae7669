"""The vision encoder of the 15B at its real size on this processor, beside PyTorch and beside what it can multiply.

    python -m benchmarks.vision_full_size [--threads 2] [--rounds 3] [--keep]

26 blocks of 1152 channels and the projector to 5120, with random weights: the graph as phiedge exports it at int4 (this
part float16 on disk, computed in float32), PyTorch eager in float32 with its fused attention, and the same in bfloat16,
which phiedge does not compute in. All in turns in one process, on the same patches; the cosine says that they compute
the same. Needs 6 GB of memory and 2 GB of disk.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.record import add_options, publish
from phiedge.bundle import ModelFacts
from phiedge.calibration.int4 import RoundToNearest
from phiedge.devices.work import vision_work
from phiedge.engines.machine_rates import measure_rates
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import INT4
from phiedge.exporters.random_weights import RandomWeights, open_random_weights
from phiedge.exporters.tensors import vision_tensor
from phiedge.exporters.vision import VisionAttention, VisionEncoder
from tests.support.published import PUBLISHED_CONFIG

PATCHES = (1024, 3600)


def load(source: RandomWeights) -> VisionEncoder:
    """The encoder as a torch module in float32."""
    encoder = VisionEncoder(source.config).eval()
    parameters = {vision_tensor(name): value for name, value in encoder.named_parameters()}
    for block in source.blocks(set(parameters), block_bytes=1 << 26):
        bits = torch.from_numpy(np.array(block.load()).view(np.int16)).view(torch.bfloat16)
        with torch.no_grad():
            parameters[block.name][block.rows] = bits.float()
        block.release()
    return encoder


def eager(encoder: VisionEncoder, patches: Tensor, positions: Tensor) -> Tensor:
    """The module's formulas, with PyTorch's own fused attention."""
    tower = encoder.tower
    x = tower.embeddings(patches, positions)
    for block in tower.encoder.layers:
        x = x + _attend(block.self_attn, block.layer_norm1(x))
        x = x + block.mlp(block.layer_norm2(x))
    return encoder.mm_projector(x)


def _attend(attention: VisionAttention, x: Tensor) -> Tensor:
    def heads(rows: Tensor) -> Tensor:
        return rows.view(len(x), attention.heads, -1).transpose(0, 1)[None]

    query, key, value = (heads(proj(x)) for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    return attention.out_proj(mixed[0].transpose(0, 1).reshape(len(x), -1))


def milliseconds(run: Callable[[], object]) -> float:
    begun_ns = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - begun_ns) / 1e6


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def measure(
    engine: OrtVision, encoders: dict[str, VisionEncoder], facts: ModelFacts, *, patches: int, rounds: int
) -> dict[str, object]:
    """Medians of `rounds` for each way to compute one picture of `patches`."""
    random = np.random.default_rng(0)
    pixels = random.uniform(-1, 1, (patches, 3 * facts.patch_size**2)).astype(np.float32)
    positions = random.normal(0, 0.05, (patches, facts.vision_hidden_size)).astype(np.float32)
    features = np.empty((patches, facts.hidden_size), np.float32)
    rows: dict[str, np.ndarray] = {}

    def in_torch(name: str) -> None:
        dtype = next(encoders[name].parameters()).dtype
        entering = (torch.from_numpy(array).to(dtype) for array in (pixels, positions))
        rows[name] = eager(encoders[name], *entering).float().numpy()

    runs: dict[str, Callable[[], None]] = {"phiedge": lambda: engine.encode(pixels, positions, features)}
    runs |= {name: lambda name=name: in_torch(name) for name in encoders}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for _ in range(rounds + 1):  # the first is a warm-up
            for name, run in runs.items():
                samples[name].append(round(milliseconds(run), 1))
    return {
        "patches": patches,
        "median_ms": {name: round(float(np.median(times[1:])), 1) for name, times in samples.items()},
        "samples_ms": {name: times[1:] for name, times in samples.items()},
        "cosine_with_phiedge": {name: round(cosine(features, found), 6) for name, found in rows.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the vision encoder at full size.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        # One decoder layer is enough for a whole export; the vision part is as published.
        (directory / "config.json").write_text(json.dumps({**PUBLISHED_CONFIG, "num_hidden_layers": 1}))
        with closing(open_random_weights(directory, seed=0)) as source:
            graphs = directory / "graphs"
            graphs.mkdir()
            write_graphs(source, precision=INT4, max_context=256, out_dir=graphs, quantiser=RoundToNearest())
            facts = source.config.facts()
            whole = load(source)
        encoders = {"torch float32": whole, "torch bfloat16": deepcopy(whole).to(torch.bfloat16)}
        engine = OrtVision(graphs / "vision.ort.onnx", facts, threads=options.threads)
        rates = measure_rates(backend="onnxruntime", threads=options.threads)
        assert rates is not None
        rows = [measure(engine, encoders, facts, patches=count, rounds=options.rounds) for count in PATCHES]
    for row in rows:
        work = vision_work(facts, patches=row["patches"], weights_bytes=0)
        row["limit_ms"] = round(work.flop / rates.float_gflops.best / 1e6, 1)
    settings = {"threads": options.threads, "rounds": options.rounds}
    found = {"float32_gflops": round(rates.float_gflops.best, 1), "pictures": rows}
    publish("vision-full-size", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
