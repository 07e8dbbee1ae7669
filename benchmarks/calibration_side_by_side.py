"""The linears of the reference model, quantised by phiedge, by NVIDIA ModelOpt and by llm-compressor on the same rows.

    python -m benchmarks.calibration_side_by_side [--methods phiedge-gptq modelopt-gptq] [--full] [--keep]

Int4 in symmetric groups of 128, and float8 with static activations. Every linear stands alone, with the inputs that it
has in the original model on the builtin samples; all rows weigh the same. The error is |Y' - X W^T|^2 / |X W^T|^2 on
rows of held-out samples. Each method runs in a process of its own, so that its peak of memory is its own; that of tools
is their imports for the most. ModelOpt leaves a scale on the inputs where it smooths; phiedge's factors can be folded,
which for `o` makes them shared by heads. Needs `pip install nvidia-modelopt llmcompressor`; `--full` adds ModelOpt's
`awq_full`, which takes many minutes. Methods that were kept today are not measured again unless they are named.
"""

import argparse
import copy
import importlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.machine import peak_rss_bytes
from benchmarks.record import add_options, kept_today, publish
from phiedge.calibration.decoder_layer import LINEARS, LayerMath, Linear, linear_name, norm_names, read_tensor
from phiedge.calibration.eight_bits import rounded
from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.float8_linear import Float8Settings, choose_float8
from phiedge.calibration.folding import Folding
from phiedge.calibration.methods import METHODS, Settings, choose_codes
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample, row_roles
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.pipeline.builtin_examples import builtin_examples
from phiedge.pipeline.calibration_samples import SampleBuilder
from phiedge.progress import silent

GROUP_SIZE = 128
NAME = "calibration-side-by-side"
_MODELOPT: dict[str, Any] = {
    "modelopt rtn": "max",
    "modelopt awq_lite": {"method": "awq_lite", "alpha_step": 0.1},
    "modelopt gptq": {"method": "gptq"},
}
_FULL: dict[str, Any] = {"modelopt awq_full": {"method": "awq_full", "alpha_step": 0.1}}
_OURS = tuple(f"phiedge {method}" for method in METHODS)
_EVERY = (*_OURS, *_MODELOPT, "llm-compressor gptq", "phiedge float8 rtn", "phiedge float8 gptq", "modelopt float8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare calibration with other tools' on the reference model.")
    parser.add_argument("--linears", type=int, default=16)
    parser.add_argument("--methods", nargs="*", help="such as phiedge-gptq; by default all")
    parser.add_argument("--full", action="store_true", help="ModelOpt's awq_full, too")
    parser.add_argument("--worker", nargs=2, metavar=("METHOD", "DIR"), help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(_worker(options.worker[0], Path(options.worker[1]))))
        return
    every = [*_EVERY, *(_FULL if options.full else ())]
    settings = {"group_size": GROUP_SIZE, "linears": options.linears} | {
        name: metadata.version(name) for name in ("nvidia-modelopt", "llmcompressor")
    }
    kept = kept_today(NAME, settings) if options.keep else {}
    named = {name.replace(" ", "-") for name in options.methods or ()}
    methods = [method for method in every if (method.replace(" ", "-") in named if named else method not in kept)]
    found: dict[str, Any] = dict(kept)
    with tempfile.TemporaryDirectory() as name, open_checkpoint("reference") as source, torch.no_grad():
        record_cases(source, Path(name), options.linears)
        for method in methods:
            command = [sys.executable, "-m", "benchmarks.calibration_side_by_side", "--worker", method, name]
            finished = subprocess.run(command, capture_output=True, text=True)
            assert finished.returncode == 0, finished.stderr
            found[method] = json.loads(finished.stdout.splitlines()[-1])
            print(method, found[method]["geometric_mean"], found[method]["seconds"], file=sys.stderr, flush=True)
    publish(NAME, settings, {method: found[method] for method in every if method in found}, keep=options.keep)


def record_cases(source: Checkpoint, directory: Path, count: int) -> None:
    """Write each linear's weight and inputs, by sample, and which samples are held out."""
    config = source.config
    examples = list(builtin_examples(patch_size=config.patch_size, max_patches=config.max_num_patches))
    samples = SampleBuilder(source, max_context=2048).build(examples)
    told: dict[str, Any] = {"cases": [], "held_out": [sample.held_out for sample in samples]}
    for place, (name, linear, rows) in enumerate(recorded_inputs(source, samples)[:count]):
        tensors = {f"rows.{number}": x.contiguous() for number, x in enumerate(rows)}
        save_file(tensors | {"weight": read_tensor(source, name)}, directory / f"{place}.safetensors")
        told["cases"].append({"name": name, "linear": linear})
    searched = {str(number): roles.searched for number, roles in enumerate(row_roles(samples))}
    save_file(searched, directory / "searched.safetensors")
    (directory / "cases.json").write_text(json.dumps(told))


def recorded_inputs(source: Checkpoint, samples: list[Sample]) -> list[tuple[str, Linear, list[Tensor]]]:
    """For each linear of the original model its name and its inputs, by sample."""
    with tempfile.TemporaryDirectory() as work:
        file = RowFile(Path(work) / "rows", [sample.rows for sample in samples], source.config.hidden_size)
        write_first_rows(source, samples, file, silent)
        rows = [file.read(place) for place in range(len(samples))]
    math = LayerMath(config=source.config)
    cases: list[tuple[str, Linear, list[Tensor]]] = []
    for layer in range(source.config.num_layers):
        first, second = (read_tensor(source, name) for name in norm_names(layer))
        weights = {linear: read_tensor(source, linear_name(layer, linear)) for linear in LINEARS}
        seen: dict[Linear, list[Tensor]] = {linear: [] for linear in LINEARS}

        def multiply(linear: Linear, x: Tensor, seen: Any = seen, weights: Any = weights) -> Tensor:
            seen[linear].append(x)
            return x @ weights[linear].T

        rows = [math.forward(x, (first, second), multiply) for x in rows]
        cases += [(linear_name(layer, linear), linear, seen[linear]) for linear in LINEARS]
    return cases


@torch.no_grad()
def _worker(method: str, directory: Path) -> dict[str, Any]:
    told = json.loads((directory / "cases.json").read_bytes())
    searched = load_file(directory / "searched.safetensors")
    errors, seconds = {}, 0.0
    _folding()  # reads the checkpoint's configuration, outside of what is measured
    _import(method)  # seconds of it, which are no property of a method
    quantise = _quantiser(method)
    for place, case in enumerate(told["cases"]):
        tensors = load_file(directory / f"{place}.safetensors")
        held = torch.cat([tensors[f"rows.{number}"] for number, one in enumerate(told["held_out"]) if one])
        fitted = [
            (tensors[f"rows.{number}"], searched[str(number)]) for number, one in enumerate(told["held_out"]) if not one
        ]
        begun = time.perf_counter()
        model = quantise(tensors["weight"], case["linear"], fitted)
        seconds += time.perf_counter() - begun
        wanted = held @ tensors["weight"].T
        name = case["name"].removeprefix("model.layers.").removesuffix(".weight")
        errors[name] = float((model(held) - wanted).square().sum() / wanted.square().sum())
    mean = math.exp(sum(math.log(error) for error in errors.values()) / len(errors))
    return {
        "errors": errors,
        "seconds": round(seconds, 2),
        "geometric_mean": float(f"{mean:.4g}"),
        "peak_rss_bytes": peak_rss_bytes(),
    }


Multiply = Callable[[Tensor], Tensor]
Quantise = Callable[[Tensor, Linear, list[tuple[Tensor, Tensor]]], Multiply]


def _quantiser(method: str) -> Quantise:
    if method.startswith("phiedge float8 "):
        return lambda weight, linear, rows: _our_float8(method.removeprefix("phiedge float8 "), weight, rows)
    if method == "modelopt float8":
        return lambda weight, linear, rows: _modelopt(weight, rows, "FP8_DEFAULT_CFG", None)
    if method == "llm-compressor gptq":
        return _llm_compressor
    if method.startswith("phiedge "):
        return lambda weight, linear, rows: _ours(method.removeprefix("phiedge "), weight, linear, rows)
    algorithm = (_MODELOPT | _FULL)[method]
    return lambda weight, linear, rows: _modelopt(weight, rows, "INT4_AWQ_CFG", algorithm)


def _import(method: str) -> None:
    if method.startswith("modelopt"):
        importlib.import_module("modelopt.torch.quantization")
    elif method == "llm-compressor gptq":
        importlib.import_module("llmcompressor.modifiers.gptq.gptq_quantize")


@cache
def _folding() -> Folding:
    with open_checkpoint("reference") as source:
        return Folding(config=source.config)


def _ours(method: Any, weight: Tensor, linear: Linear, rows: list[tuple[Tensor, Tensor]]) -> Multiply:
    settings = Settings(methods=(method,), group_size=GROUP_SIZE)
    inputs = InputStatistics(told=linear, columns=weight.shape[1], group_size=GROUP_SIZE, with_gram=settings.needs_gram)
    none = torch.arange(0)
    for number, (x, searched) in enumerate(rows):
        # Some rows must be held to be judged by, as the method is fixed, any do.
        held = torch.arange(1) if number == 0 else none
        inputs.add(x, RowRoles(weights=torch.ones(len(x)), searched=searched, held=held), sample=str(number))
    codes = choose_codes(weight, inputs, settings, _folding().pool(linear))
    effective = codes.quantised.dequantise().div_(codes.smoothing.factors)
    return lambda x: x @ effective.T


def _our_float8(method: Any, weight: Tensor, rows: list[tuple[Tensor, Tensor]]) -> Multiply:
    settings = Float8Settings(methods=(method,))
    inputs = InputStatistics(told="a linear", columns=weight.shape[1], group_size=1, with_gram=settings.needs_gram)
    for number, (x, searched) in enumerate(rows):
        # The rule of the inputs' scale needs rows to be judged by, which may not be the ones that judge here.
        inputs.add(x, RowRoles(weights=torch.ones(len(x)), searched=searched, held=searched), sample=str(number))
    chosen = choose_float8(weight, inputs, settings)
    effective = chosen.codes.dequantise()
    return lambda x: rounded(x, chosen.input_scale.scale, "float8") @ effective.T


def _modelopt(weight: Tensor, rows: list[tuple[Tensor, Tensor]], name: str, algorithm: Any) -> Multiply:
    import modelopt.torch.quantization as mtq

    config = copy.deepcopy(getattr(mtq, name))
    if algorithm is not None:
        config["algorithm"] = algorithm
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.copy_(weight)

    def forward(model: nn.Module) -> None:
        for x, _ in rows:
            model(x)

    model: Multiply = mtq.quantize(nn.Sequential(linear), config, forward_loop=forward)
    return model


def _llm_compressor(weight: Tensor, linear: Linear, rows: list[tuple[Tensor, Tensor]]) -> Multiply:
    """Its GPTQ as its modifier calls it, with the scales of its observer and the blocks and damping of its defaults."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
    from llmcompressor.modifiers.gptq.helpers import accumulate_hessian, make_empty_hessian

    module = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    module.weight.copy_(weight)
    hessian, count = make_empty_hessian(module, device=weight.device), torch.zeros(())
    for x, _ in rows:
        hessian, count = accumulate_hessian(x, module, hessian, count)
    form = QuantizationArgs(num_bits=4, symmetric=True, strategy="group", group_size=GROUP_SIZE, actorder="static")
    groups = weight.view(len(weight), -1, GROUP_SIZE)
    scales, zeros = calculate_qparams(groups.amin(-1), groups.amax(-1), form)
    quantised, _, _ = quantize_weight(
        weights=weight[None].clone(),
        hessians=(hessian / count)[None],
        scale=scales[None],
        zero_point=zeros[None],
        global_scale=None,
        quant_args=form,
    )
    return lambda x: x @ quantised[0].T


if __name__ == "__main__":
    main()
