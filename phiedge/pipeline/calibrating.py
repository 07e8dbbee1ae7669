"""`--calibration`: which examples, where the artefacts lie meanwhile, and what the report says of it."""

import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from phiedge.calibration.artefact import LayerReport
from phiedge.calibration.calibrated import METHOD, CalibratedQuantiser, FoldedSource
from phiedge.calibration.decoder_layer import linear_name
from phiedge.calibration.float8_calibrated import Float8Quantiser
from phiedge.calibration.float8_linear import FLOAT8_CHOICES, WEIGHT_SCALES, Float8Settings, WeightScales
from phiedge.calibration.float8_run import Float8Calibration, calibrate_float8
from phiedge.calibration.head_run import HEAD
from phiedge.calibration.int4_run import Calibration, calibrate
from phiedge.calibration.methods import CHOICES, Settings
from phiedge.calibration.samples import Kind, Sample, visual_weight
from phiedge.devices import Device, catalogue
from phiedge.devices.memory_limits import require_memory
from phiedge.errors import ExportError, UsageError
from phiedge.exporters.precision import GROUP_SIZES, PrecisionPlan
from phiedge.exporters.quantised import Quantiser
from phiedge.exporters.source import ModelSource
from phiedge.exporters.tensors import TOWER_PREFIX
from phiedge.pipeline.builtin_samples import builtin_count
from phiedge.pipeline.cache_calibrating import CachePlan, cache_plan
from phiedge.pipeline.calibration_samples import CalibrationSource
from phiedge.pipeline.chosen_samples import chosen_samples
from phiedge.pipeline.mixing import Mixed, measuring_bytes, mix
from phiedge.progress import Progress, silent

NONE = "none"
ROW: WeightScales = "row"
ROUNDED = "rtn"  # what is not calibrated: a head of 8 bits
_MOST_NAMED = 4
FLOAT32_PARAMETERS = 1_000_000_000  # larger models are computed in the type that they were trained in
_DIGITS = 6
# Of memory: torch and one sample's rows, and for each weight of a linear its value, what it is compared with, its code.
_BASE_BYTES, _WEIGHT_BYTES = 800_000_000, 10


def check_weight_scales(asked: str, plan: PrecisionPlan) -> WeightScales:
    """What `--weight-scales` asks for. Raises `UsageError` where there is no such thing, or nothing that has them."""
    found = next((each for each in WEIGHT_SCALES if each == asked), None)
    if found is None:
        raise UsageError(
            f"there are no --weight-scales {asked!r}", remedy=f"--weight-scales {' or '.join(WEIGHT_SCALES)}"
        )
    if found != ROW and plan.decoder != "float8":
        raise UsageError(
            f"--weight-scales {found} is of 8-bit floats, --precision {plan.name} has none",
            remedy="leave --weight-scales out, or use --precision fp8",
        )
    return found


def check_calibration(calibration: str, method: str, plan: PrecisionPlan) -> None:
    """Refuse what cannot be calibrated, before anything is read. Raises `UsageError`."""
    if plan.decoder == "float8":
        check_float8(calibration, method, plan)
    if method not in CHOICES:
        raise UsageError(f"there is no method {method!r}", remedy=f"use one of {', '.join(CHOICES)}")
    if calibration == NONE:
        if method != "auto":
            raise UsageError(
                f"--method {method} needs data to go by", remedy="--calibration builtin or FILE.jsonl, or no method"
            )
        return
    if not is_calibrated(plan) and plan.cache is None and plan.vision_linears is None:
        raise UsageError(
            f"--precision {plan.name} has nothing to calibrate",
            remedy="leave --calibration out, or say --precision int4 or fp8, or --kv-cache int8, or --vision-precision "
            "int8 or fp8",
        )
    if not is_calibrated(plan) and method != "auto":
        raise UsageError(
            f"--method {method} chooses small integers, and --precision {plan.name} has none",
            remedy="leave --method out: it is for --precision int4 and fp8",
        )
    if builtin_count(calibration) is None and not Path(calibration).is_file():
        raise UsageError(
            f"there is no calibration {calibration!r}",
            remedy="--calibration builtin, builtin:COUNT, none, or a FILE.jsonl that is there",
        )


def check_units(device: Device, precision: str) -> None:
    """Refuse 8-bit floats for a device that does not multiply them. Raises `UsageError` naming some that do."""
    if precision != "fp8" or device.supports(precision):
        return
    able = [other.name for other in catalogue() if other.kind == device.kind and other.supports(precision)]
    others = able or [other.name for other in catalogue() if other.supports(precision)]
    raise UsageError(
        f"{device.name} has no units for fp8" + (f" (SM {device.sm.value})" if device.sm is not None else ""),
        remedy=f"use --precision int4, or --target {', '.join(others[:_MOST_NAMED])}",
    )


def is_calibrated(plan: PrecisionPlan) -> bool:
    """Whether the decoder's linears have something to calibrate."""
    return plan.decoder_bits is not None or plan.decoder == "float8"


def check_float8(calibration: str, method: str, plan: PrecisionPlan) -> None:
    """As `check_calibration`, for what 8-bit floats are particular about."""
    if plan.cache is not None:
        raise UsageError(
            f"--precision {plan.name} is for TensorRT, whose cache here is float16, --kv-cache {plan.cache} is not",
            remedy="leave --kv-cache out, or use --precision int4",
        )
    if calibration == NONE:
        raise UsageError(
            "--precision fp8 needs data: the scales of what goes into each layer are measured before inference",
            remedy="add --calibration builtin, or --calibration FILE.jsonl with examples of your own",
        )
    if method == "awq":
        raise UsageError(
            "--method awq scales channels, which gains nothing in 8-bit floats: they have an exponent each",
            remedy=f"use one of {', '.join(FLOAT8_CHOICES)}",
        )


def calibration_directory(output: Path) -> Path:
    """Where the artefacts for a bundle lie until it is written; what was killed goes on from there."""
    return output.resolve().with_name(f".{output.resolve().name}.calibration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration for one export: what the export reads weights through, and what its report says."""

    calibration: Calibration | Float8Calibration
    model: CalibrationSource
    samples: Sequence[Sample]
    data: str
    compute: torch.dtype

    def source(self, plan: PrecisionPlan) -> ModelSource:
        """The model with folded norms, if any, and so the linears that `plan` keeps as floats."""
        if isinstance(self.calibration, Float8Calibration):
            return self.model
        return FoldedSource(self.model, self.calibration, plan.wider if plan.wider_as == "float16" else ())

    def mixed(self, plan: PrecisionPlan, linears_mb: float | None, progress: Progress = silent) -> Mixed | None:
        """What each linear costs, and `plan` with more bits for some where there is a budget; None for 8-bit floats."""
        if isinstance(self.calibration, Float8Calibration):
            return None
        return mix(
            self.model,
            self.calibration,
            self.samples,
            plan,
            compute=self.compute,
            linears_mb=linears_mb,
            progress=progress,
        )

    def quantiser(self) -> Quantiser:
        """The codes."""
        if isinstance(self.calibration, Float8Calibration):
            return Float8Quantiser(self.calibration)
        return CalibratedQuantiser(self.calibration, self.model.config)

    def cache_plan(self) -> CachePlan:
        """The scales of a cache of what the quantised weights give."""
        layers = tuple(self.calibration.layer(index).cache for index in range(self.calibration.layers))
        return cache_plan(layers, self.samples, data=self.data)

    def activation_scales(self) -> dict[str, float] | None:
        """What the inputs of linears are divided by, where they have 8 bits."""
        return self.calibration.activation_scales() if isinstance(self.calibration, Float8Calibration) else None

    def add_to(self, report: dict[str, Any]) -> None:
        """Say in `quantization.json` which method was chosen where, what each lost, and what the model lost."""
        layers = [self.calibration.layer(index).report for index in range(self.calibration.layers)]
        methods = {
            linear_name(layer.layer, linear.linear): linear.method
            for layer in layers
            for linear in layer.linears
            if linear.linear != "head"
        }
        small = self.calibration if isinstance(self.calibration, Calibration) else None
        head = small.head().report if small is not None and small.has_head else None
        if head is not None:
            methods[HEAD] = head.method
        report["method"] = METHOD
        for tensor in report["tensors"]:
            widened = small is not None and tensor["bits"] > 4
            tensor["method"] = ROUNDED if widened else methods.get(tensor["name"], ROUNDED)
        kinds = Counter(int(kind) for sample in self.samples for kind in sample.kinds)
        report["calibration"] = {
            "data": self.data,
            "samples": len(self.samples),
            "held_out": sum(sample.held_out for sample in self.samples),
            "rows": {kind.name.lower(): kinds[kind.value] for kind in Kind},
            "visual_row_weight": _short(visual_weight(self.samples)),
            "divergence": {name: asdict(found) for name, found in self.calibration.divergence.items()},
            "layers": [_told(layer) for layer in layers],
            "head": None if head is None else _short(asdict(head)),
        }
        if isinstance(self.calibration, Float8Calibration):
            report["calibration"]["weight_scales"] = self.calibration.weight_scales

    def remove(self) -> None:
        """Remove the artefacts: the bundle has what was in them."""
        shutil.rmtree(self.calibration.directory)


def compute_type(source: CalibrationSource) -> torch.dtype:
    """What products are computed in: for a large model the type that it was trained in."""
    parameters = sum(spec.parameters for spec in source.config.tensors().values())
    return torch.float32 if parameters <= FLOAT32_PARAMETERS else torch.bfloat16


def calibrate_for_export(
    source: CalibrationSource,
    plan: PrecisionPlan,
    calibration: str,
    directory: Path,
    *,
    method: str = "auto",
    weight_scales: WeightScales = ROW,
    max_context: int,
    progress: Progress = silent,
) -> Calibrated:
    """Calibrate the decoder's linears for `plan`. Raises `InputError` for examples that cannot be used."""
    config = source.config
    if plan.group_size is not None:
        _check_groups(config.linear_widths, plan.group_size)
    count = builtin_count(calibration)
    samples, data = chosen_samples(
        source, calibration if count is None else None, max_context=max_context, count=count or 0
    )
    compute = compute_type(source)
    settings = _settings(plan, method, weight_scales)
    _require_memory(source, settings)
    if not directory.exists():
        _require_space(directory.parent, source, samples, compute, plan)
    fingerprint = source.fingerprint()
    calibrated: Calibration | Float8Calibration
    if isinstance(settings, Float8Settings):
        calibrated = calibrate_float8(
            source, samples, settings, directory, fingerprint=fingerprint, compute=compute, progress=progress
        )
    else:
        calibrated = calibrate(
            source, samples, settings, directory, fingerprint=fingerprint, compute=compute, progress=progress
        )
    return Calibrated(calibration=calibrated, model=source, samples=samples, data=data, compute=compute)


def _settings(plan: PrecisionPlan, method: str, weight_scales: WeightScales) -> Settings | Float8Settings:
    if plan.decoder == "float8":
        return Float8Settings(methods=FLOAT8_CHOICES[method], weight_scales=weight_scales)
    assert plan.group_size is not None
    assert plan.decoder_bits is not None
    return Settings(
        methods=CHOICES[method], group_size=plan.group_size, bits=plan.decoder_bits, head_bits=plan.lm_head_bits
    )


def _check_groups(widths: Collection[int], group_size: int) -> None:
    """Refuse at once what would be refused when the first linear of that width is reached."""
    ragged = sorted({width for width in widths if width % group_size})
    if ragged:
        fitting = [str(size) for size in GROUP_SIZES if all(width % size == 0 for width in widths)]
        told = ", ".join(map(str, ragged))
        raise ExportError(
            f"the decoder has linears with K = {told}, which groups of {group_size} weights do not fill",
            remedy="use --precision fp16" + (f", or a target with groups of {' or '.join(fitting)}" if fitting else ""),
        )


def _told(layer: LayerReport) -> dict[str, Any]:
    """A layer's report without what is not a property of the weights, with numbers to six digits."""
    told: dict[str, Any] = _short(asdict(layer))
    del told["seconds"]
    for linear in told["linears"]:
        if linear["input_scale"] is None:
            del linear["input_scale"]
    return told


def _require_memory(source: CalibrationSource, settings: Settings | Float8Settings) -> None:
    """The largest linear with its codes and what it is compared with, and for GPTQ its Gram matrix and the factor.

    Before the first layer, the vision encoder in float32 with the scores of its attention; behind the last, for int4,
    the rows of the model with each linear quantised alone (`mixing.py`).
    """
    config = source.config
    shapes = [
        (2 * config.intermediate_size, config.hidden_size),
        (config.hidden_size, config.intermediate_size),
        *(
            [(config.vocab_size, config.hidden_size)]
            if isinstance(settings, Settings) and settings.head_bits == 4
            else []
        ),
    ]
    of_linears = max(
        _WEIGHT_BYTES * rows * columns + (8 * columns**2 if settings.needs_gram else 0) for rows, columns in shapes
    )
    of_vision = 4 * sum(spec.parameters for name, spec in config.tensors().items() if name.startswith(TOWER_PREFIX))
    of_scores = 3 * 4 * config.vision_heads * config.max_num_patches**2
    of_costs = measuring_bytes(config) if isinstance(settings, Settings) else 0
    resident_bytes = _BASE_BYTES + max(of_linears, of_vision + of_scores, of_costs)
    require_memory(
        "calibration",
        resident_bytes=resident_bytes,
        mapped_bytes=2 * resident_bytes,
        remedy="--method awq needs the least; or raise the limit, or export on another machine",
    )


def _require_space(
    parent: Path, source: CalibrationSource, samples: Sequence[Sample], compute: torch.dtype, plan: PrecisionPlan
) -> None:
    """The rows before and after a layer, what waits inside it, and the artefacts."""
    config, rows = source.config, sum(sample.rows for sample in samples)
    waiting = 3 * 4 * config.hidden_size + compute.itemsize * (config.hidden_size + config.intermediate_size)
    decoder = sum(spec.parameters for name, spec in config.tensors().items() if name.startswith("model.layers."))
    needed_bytes = rows * waiting + (decoder if plan.decoder == "float8" else decoder * 9 // 16)
    parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(parent).free
    if needed_bytes > free_bytes:
        raise ExportError(
            f"calibration needs {needed_bytes / 1e6:,.0f} MB beside the bundle, "
            f"{parent} has {free_bytes / 1e6:,.0f} MB free",
            remedy="free some space, give fewer examples, or write the bundle elsewhere with -o",
        )


def _short(value: Any) -> Any:
    """Numbers to six digits, as in the rest of the report."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return value
