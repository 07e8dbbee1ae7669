"""One decoder layer of the 15B at full width: what each method loses, how long it takes, and in how much memory.

    python -m benchmarks.calibrate_layer --method auto [--samples 128] [--rows 512] [--keep]

The weights are random, with outlier channels planted as language models have them: a few columns of every linear's
inputs are tens of times larger than the others. The inputs have a spectrum that falls off as 1 / k, because inputs of
trained models are correlated; that is an assumption, and what GPTQ gains depends on it.

What scales with the rows (forward passes, sums over inputs) is told apart from what does not (factors, codes), so that
fewer rows tell what 128 samples of 512 take: `seconds_at_128x512` is measured there, and projected from elsewhere.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import peak_rss_bytes
from benchmarks.record import add_options, publish
from phiedge.calibration.decoder_layer import linear_name, norm_names
from phiedge.calibration.int4_run import IntegerCoder
from phiedge.calibration.layer_run import LayerRun
from phiedge.calibration.methods import METHODS, Settings
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.run import Run
from phiedge.calibration.samples import Kind, Sample
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.random_tensors import RandomTensors
from phiedge.exporters.safetensors_file import Array, Dtype
from tests.support.published import PUBLISHED_CONFIG

OUTLIERS, GAIN = 12, 40.0  # columns of each linear's inputs, and how much larger they are
LAYERS = 40
_ALL_ROWS = 128 * 512


class PlantedLayer:
    """Random weights of layer 0 whose norms, values and `up` rows make outlier channels."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._tensors = RandomTensors(config)
        rng = np.random.default_rng(0)
        values = (config.num_heads + config.num_kv_heads) * config.head_dim
        attention, mlp = norm_names(0)
        draw = lambda first, count: first + rng.permutation(count)[:OUTLIERS]  # noqa: E731
        self._loud = {
            attention: draw(0, config.hidden_size),
            mlp: draw(0, config.hidden_size),
            linear_name(0, "qkv"): draw(values, config.num_kv_heads * config.head_dim),
            linear_name(0, "gate_up"): draw(config.intermediate_size, config.intermediate_size),
        }

    def dtype(self, name: str) -> Dtype:
        return "float32" if name in self._loud else "bfloat16"

    def tensor(self, name: str, rows: slice | None = None) -> Array:
        bits = self._tensors.tensor(name, rows)
        if name not in self._loud:
            return bits
        values = bits.astype(np.uint32)
        values <<= 16
        wide: Array = values.view(np.float32)
        wide[self._loud[name]] *= GAIN
        return wide


def correlated_rows(hidden: int, count: int, generator: torch.Generator) -> Tensor:
    """Rows whose spectrum falls off as 1 / k, of order one."""
    spectrum = 1 / torch.arange(1, hidden + 1).float().sqrt()
    rows = torch.randn(count, hidden, generator=generator) * spectrum
    turned = _turn(rows, generator)
    return turned / turned.square().mean().sqrt()


def _turn(rows: Tensor, generator: torch.Generator) -> Tensor:
    """A fixed rotation, as three reflections and permutations: a dense one would take longer than the layer."""
    fixed = torch.Generator().manual_seed(7)
    for _ in range(3):
        rows = rows[:, torch.randperm(rows.shape[1], generator=fixed)]
        signs = torch.where(torch.rand(rows.shape[1], generator=fixed) < 0.5, -1.0, 1.0)
        rows = _blockwise_hadamard(rows * signs)
    return rows


def _blockwise_hadamard(rows: Tensor) -> Tensor:
    size = math.gcd(rows.shape[1], 1024)
    blocks = rows.view(len(rows), -1, size)
    step = 1
    while step < size:
        pairs = blocks.view(len(rows), -1, 2, step)
        blocks = torch.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), dim=2)
        step *= 2
    return blocks.reshape(len(rows), -1) / math.sqrt(size)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure calibrating one layer at full width.")
    parser.add_argument("--method", choices=[*METHODS, "auto"], default="auto")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rows", type=int, default=512, help="of each sample")
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--compute", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--work", type=Path, help="where rows wait between linears")
    add_options(parser)
    options = parser.parse_args()
    config = ModelConfig.from_json(PUBLISHED_CONFIG)
    methods = METHODS if options.method == "auto" else (options.method,)
    samples = [_sample(place, options.rows) for place in range(options.samples)]
    with tempfile.TemporaryDirectory(dir=options.work) as name, torch.no_grad():
        directory = Path(name)
        lengths = [options.rows] * options.samples
        before = RowFile(directory / "before", lengths, config.hidden_size)
        generator = torch.Generator().manual_seed(1)
        for place in range(options.samples):
            before.write(place, correlated_rows(config.hidden_size, options.rows, generator))
        imported_bytes = peak_rss_bytes()
        told = _Told()
        run = Run(
            source=PlantedLayer(config),
            samples=samples,
            directory=directory,
            compute=getattr(torch, options.compute),
            progress=told,
        )
        coder = IntegerCoder(settings=Settings(methods=methods, group_size=options.group_size), config=config)
        begun = time.perf_counter()
        artefact = LayerRun(run=run, coder=coder, index=0).code(
            before, RowFile(directory / "after", lengths, config.hidden_size)
        )
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        artefact.save(directory / "layer.safetensors", "benchmark")
        save_seconds = time.perf_counter() - begun
    of_rows = sum(told.seconds.values())
    all_rows = seconds - of_rows + of_rows * _ALL_ROWS / (options.samples * options.rows) + save_seconds
    found = {
        "seconds": round(seconds, 1),
        "seconds_that_scale_with_rows": round(of_rows, 1),
        "seconds_by_stage": {name: round(found, 1) for name, found in told.seconds.items()},
        "seconds_at_128x512": round(all_rows, 1),
        "save_seconds": round(save_seconds, 1),
        "peak_rss_gib": round(peak_rss_bytes() / 2**30, 2),
        "before_rss_gib": round(imported_bytes / 2**30, 2),
        "hours_for_40_layers_at_128x512": round(LAYERS * all_rows / 3600, 2),
        "beside_rtn": _beside_rtn([dict(linear.errors) for linear in artefact.report.linears]),
        "linears": [asdict(linear) | {"outliers": len(linear.outliers)} for linear in artefact.report.linears],
    }
    settings = {key: getattr(options, key) for key in ("method", "samples", "rows", "group_size", "compute")}
    publish(f"calibrate-layer-{options.method}", settings, found, keep=options.keep)


class _Told:
    """Progress as lines with the time, on stderr, and the seconds of each pass over the samples."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        begun = time.perf_counter()
        yield lambda count: None
        self.seconds[name] = time.perf_counter() - begun
        print(f"{time.process_time():8.1f} s of CPU, {self.seconds[name]:8.1f} s: {name}", file=sys.stderr, flush=True)


def _beside_rtn(errors: list[dict[str, float]]) -> dict[str, float]:
    """How many times less than rounding to nearest each method loses, over the linears (geometric mean)."""
    if any("rtn" not in of_linear for of_linear in errors):
        return {}
    factors = {
        method: [math.log(of_linear["rtn"] / of_linear[method]) for of_linear in errors]
        for method in errors[0]
        if method != "rtn"
    }
    return {method: round(math.exp(sum(found) / len(found)), 2) for method, found in factors.items()}


def _sample(place: int, rows: int) -> Sample:
    return Sample(
        name=str(place),
        tokens=np.zeros(rows, np.int64),
        kinds=np.full(rows, Kind.TEXT, np.int8),
        held_out=place % 8 == 7,
        digest="",
        load=list,
    )


if __name__ == "__main__":
    main()
