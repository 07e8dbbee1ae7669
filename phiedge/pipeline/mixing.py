"""Which linears of a calibrated decoder get more bits than the others, and what `quantization.json` says of it.

What each linear costs is measured behind every calibration (`phiedge.calibration.sensitivity`), so that the report can
say what more bytes would buy. With a budget, they are bought. The codes of the other linears stay as they are.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from phiedge.calibration.decoder_layer import LINEARS
from phiedge.calibration.int4_run import Calibration
from phiedge.calibration.kept_layers import KeptLayers
from phiedge.calibration.partial_models import PartialModels
from phiedge.calibration.samples import Sample
from phiedge.calibration.sensitivity import (
    CurvePoint,
    LinearSizes,
    Sensitivity,
    choose_wider,
    judging_samples,
    measure_sensitivity,
)
from phiedge.errors import UsageError
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import PrecisionPlan
from phiedge.pipeline.calibration_samples import CalibrationSource
from phiedge.progress import Progress, silent

_MOST_ROWS, _MOST_ROWS_OF_LARGE = 2048, 256  # a large model has many linears, and each goes through all layers
_LARGE_PARAMETERS = 1_000_000_000
_DEQUANTISED_BYTES = 12  # of a weight, while codes become floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """A plan with the linears that the budget has more bits for, and what is known of every linear."""

    plan: PrecisionPlan
    sizes: LinearSizes
    sensitivity: Sensitivity
    budget_bytes: int | None

    def add_to(self, report: dict[str, Any]) -> None:
        """Tell it in `quantization.json`."""
        report["sensitivity"] = sensitivity_section(self)
        report["mixed"] = None if self.budget_bytes is None else mixed_section(self)


def check_budget(linears_mb: float | None, *, calibrated: bool, plan: PrecisionPlan, also: Sequence[str] = ()) -> None:
    """Refuse a budget that nothing can be bought with. Raises `UsageError`."""
    if linears_mb is None:
        return
    if plan.decoder_bits != 4:
        raise UsageError(f"--precision {plan.name} has no linears of 4 bits to give more", remedy="--precision int4")
    if not calibrated:
        raise UsageError(
            "--linears-mb needs to know what each linear costs, which calibration measures",
            remedy="--calibration builtin, or a FILE.jsonl",
        )
    if also:
        raise UsageError(
            f"{also[0]} holds linears of 4 bits alone, --linears-mb gives some of them more",
            remedy="leave --linears-mb or --also out",
        )
    if not 0 < linears_mb < float("inf"):
        raise UsageError(f"--linears-mb {linears_mb:g} is no size", remedy="give a number above 0")


def mix(
    source: CalibrationSource,
    calibration: Calibration,
    samples: Sequence[Sample],
    plan: PrecisionPlan,
    *,
    compute: torch.dtype,
    linears_mb: float | None = None,
    progress: Progress = silent,
) -> Mixed:
    """Measure what each linear costs, and spend the budget where there is one.

    Raises `UsageError` for one that does not hold the linears as they are.
    """
    sizes = LinearSizes.of(source.config, plan)
    budget_bytes = None if linears_mb is None else round(linears_mb * 1e6)
    least_bytes = sizes.together(())
    if budget_bytes is not None and budget_bytes < least_bytes:
        raise UsageError(
            f"the decoder's linears take {least_bytes / 1e6:,.1f} MB at {plan.decoder_bits} bits, "
            f"--linears-mb allows {budget_bytes / 1e6:,.1f}",
            remedy=f"--linears-mb {least_bytes / 1e6 + 0.1:.1f} to {sizes.together(tuple(sizes.more)) / 1e6:.1f}",
        )
    models = PartialModels(
        source=source,
        artefacts=KeptLayers(calibration.layer).layer,
        key=calibration.key,
        compute=compute,
        directory=calibration.directory,
        progress=progress,
    )
    judging = judging_samples(samples, _MOST_ROWS_OF_LARGE if _is_large(source.config) else _MOST_ROWS)
    found = measure_sensitivity(models, judging, sizes, budget_bytes=budget_bytes)
    if budget_bytes is not None:
        costs = {name: one.kl_mean for name, one in found.linears.items()}
        plan = replace(plan, wider=choose_wider(costs, sizes.more, budget_bytes - least_bytes))
    return Mixed(plan=plan, sizes=sizes, sensitivity=found, budget_bytes=budget_bytes)


def measuring_bytes(config: ModelConfig) -> int:
    """What `mix` holds at most: every choice's rows, and a layer's weights as they are and quantised, or the head."""
    places = config.num_layers * len(LINEARS)
    rows_bytes = 4 * config.hidden_size * (places + 2) * (_MOST_ROWS_OF_LARGE if _is_large(config) else _MOST_ROWS)
    layer = sum(spec.parameters for name, spec in config.tensors().items() if name.startswith("model.layers.0."))
    largest = 2 * config.intermediate_size * config.hidden_size
    item_bytes = 2 if _is_large(config) else 4
    of_layer = 2 * item_bytes * layer + _DEQUANTISED_BYTES * largest
    return rows_bytes + max(of_layer, (4 + item_bytes) * config.vocab_size * config.hidden_size)


def _is_large(config: ModelConfig) -> bool:
    return sum(spec.parameters for spec in config.tensors().values()) > _LARGE_PARAMETERS


def sensitivity_section(mixed: Mixed) -> dict[str, Any]:
    """What each linear costs alone, what it would take to have more bits, and the curve of sizes."""
    first, *_ = mixed.sensitivity.curve
    return {
        "rows": first.divergence.rows,
        "wider_as": mixed.plan.wider_as,
        "linears": [
            {"name": name, "kl_mean": found.kl_mean, "top1_agreement": found.top1_agreement}
            | {"bytes": mixed.sizes.planned[name], "more_bytes": mixed.sizes.more[name]}
            for name, found in mixed.sensitivity.linears.items()
        ],
        "curve": [_point(point) for point in mixed.sensitivity.curve],
    }


def mixed_section(mixed: Mixed) -> dict[str, Any]:
    """What was asked for, and what came of it."""
    return {
        "budget_bytes": mixed.budget_bytes,
        "linears_bytes": mixed.sizes.together(mixed.plan.wider),
        "wider": dict.fromkeys(mixed.plan.wider, mixed.plan.wider_as),
    }


def _point(point: CurvePoint) -> dict[str, Any]:
    told = asdict(point)
    return {"wider": list(told["wider"]), "linears_bytes": told["linears_bytes"]} | {
        key: told["divergence"][key] for key in ("kl_mean", "top1_agreement")
    }
