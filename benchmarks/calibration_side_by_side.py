"""The linears of the reference model, quantised by phiedge and by NVIDIA ModelOpt on the same rows: what each loses.

    python -m benchmarks.calibration_side_by_side [--linears 16] [--full] [--keep]

Int4 in symmetric groups of 128 for both. Every linear stands alone, with the inputs that it has in the original model
on the builtin samples; all rows weigh the same. The error is |X (W - Q)^T|^2 / |X W^T|^2 on rows of held-out samples.
ModelOpt leaves a scale on the inputs where it smooths; phiedge's factors can be folded, which for `o` makes them shared
by heads. Needs `pip install nvidia-modelopt`; `--full` adds its `awq_full`, which takes many minutes.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelopt
import modelopt.torch.quantization as mtq
import torch
from torch import Tensor, nn

from benchmarks.machine import peak_rss_bytes
from benchmarks.record import add_options, publish
from phiedge.calibration.decoder_layer import LINEARS, LayerMath, Linear, linear_name, norm_names, read_tensor
from phiedge.calibration.first_rows import write_first_rows
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
_PEERS: dict[str, Any] = {
    "modelopt rtn": "max",
    "modelopt awq_lite": {"method": "awq_lite", "alpha_step": 0.1},
    "modelopt gptq": {"method": "gptq"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare calibration with ModelOpt's on the reference model.")
    parser.add_argument("--linears", type=int, default=16)
    parser.add_argument("--full", action="store_true", help="ModelOpt's awq_full, too")
    add_options(parser)
    options = parser.parse_args()
    with open_checkpoint("reference") as source, torch.no_grad():
        config = source.config
        examples = list(builtin_examples(patch_size=config.patch_size, max_patches=config.max_num_patches))
        samples = SampleBuilder(source, max_context=2048).build(examples)
        cases = recorded_inputs(source, samples)[: options.linears]
        found: dict[str, dict[str, Any]] = {}
        peers = _PEERS | ({"modelopt awq_full": {"method": "awq_full", "alpha_step": 0.1}} if options.full else {})
        for name, linear, rows in cases:
            weight = read_tensor(source, name)
            for method, outcome in (
                ours(source, samples, linear, weight, rows) | theirs(peers, samples, weight, rows)
            ).items():
                into = found.setdefault(method, {"errors": {}, "seconds": 0.0})
                into["errors"][name.removeprefix("model.layers.").removesuffix(".weight")] = outcome[0]
                into["seconds"] = round(into["seconds"] + outcome[1], 2)
    for told in found.values():
        errors = list(told["errors"].values())
        told["geometric_mean"] = float(f"{torch.tensor(errors).log().mean().exp():.4g}")
        told["beside modelopt awq_lite, worst"] = max(
            error / found["modelopt awq_lite"]["errors"][name] for name, error in told["errors"].items()
        )
    settings = {"modelopt": modelopt.__version__, "group_size": GROUP_SIZE, "linears": len(cases)}
    publish("calibration-side-by-side", settings, found | {"peak_rss_bytes": peak_rss_bytes()}, keep=options.keep)


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


def ours(
    source: Checkpoint, samples: list[Sample], linear: Linear, weight: Tensor, rows: list[Tensor]
) -> dict[str, tuple[float, float]]:
    """Error and seconds by method."""
    outcome = {}
    pool = Folding(config=source.config).pool(linear)
    for method in METHODS:
        settings = Settings(methods=(method,), group_size=GROUP_SIZE)
        begun = time.perf_counter()
        inputs = InputStatistics(
            told=linear, columns=weight.shape[1], group_size=GROUP_SIZE, with_gram=settings.needs_gram
        )
        for sample, roles, x in zip(samples, row_roles(samples), rows, strict=True):
            alike = torch.full((sample.rows,), float(not sample.held_out))
            held = torch.arange(sample.rows if sample.held_out else 0)
            inputs.add(x, RowRoles(weights=alike, searched=roles.searched, held=held), sample=sample.name)
        error = choose_codes(weight, inputs, settings, pool).errors[method]
        outcome[f"phiedge {method}"] = error, time.perf_counter() - begun
    return outcome


def theirs(
    peers: dict[str, Any], samples: list[Sample], weight: Tensor, rows: list[Tensor]
) -> dict[str, tuple[float, float]]:
    """The same of ModelOpt."""
    calibration = [x for sample, x in zip(samples, rows, strict=True) if not sample.held_out]
    held = torch.cat([x for sample, x in zip(samples, rows, strict=True) if sample.held_out])
    wanted = held @ weight.T
    outcome = {}
    for method, algorithm in peers.items():
        config = copy.deepcopy(mtq.INT4_AWQ_CFG)
        config["algorithm"] = algorithm
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.copy_(weight)
        begun = time.perf_counter()
        model = mtq.quantize(nn.Sequential(linear), config, forward_loop=_through(calibration))
        seconds = time.perf_counter() - begun
        outcome[method] = float((model(held) - wanted).square().sum() / wanted.square().sum()), seconds
    return outcome


def _through(rows: list[Tensor]) -> Callable[[nn.Module], None]:
    def forward(model: nn.Module) -> None:
        for x in rows:
            model(x)

    return forward


if __name__ == "__main__":
    main()
