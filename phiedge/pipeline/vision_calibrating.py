"""`--vision-precision`: what the vision graph's linears are, what they are calibrated on, and what the report says."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from phiedge.calibration.vision_artefact import VisionStageReport
from phiedge.calibration.vision_calibrated import VisionQuantiser, input_scales, stage_linears
from phiedge.calibration.vision_run import VisionCalibration, calibrate_vision
from phiedge.devices import Device, catalogue
from phiedge.devices.memory_limits import require_memory
from phiedge.errors import ExportError, UsageError
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import PrecisionChoice, PrecisionPlan, VisionLinears
from phiedge.exporters.quantised import Quantiser
from phiedge.exporters.tensors import TOWER_PREFIX
from phiedge.pipeline.calibration_samples import CalibrationSource
from phiedge.pipeline.chosen_samples import chosen_samples
from phiedge.pipeline.contents import dialects_for
from phiedge.progress import Progress, silent

FLOAT = "float"
_NAMES: Mapping[str, VisionLinears] = {"int8": "int8", "fp8": "float8"}
# Thousands of patches each: scales of inputs and rows need no more pictures than that.
VISION_EXAMPLES = 32
_MOST_NAMED = 4
_DIGITS = 6
_BASE_BYTES = 800_000_000  # torch, and the rows of a picture
_WEIGHT_BYTES = 24  # of the largest product: its value, what it is compared with, its codes under several scales

Told: TypeAlias = dict[str, Any]


def check_vision_precision(asked: str, device: Device, plan: PrecisionPlan) -> VisionLinears | None:
    """What `--vision-precision` asks for. Raises `UsageError` for what is not, or has no kernels on this device."""
    if asked == FLOAT:
        return None
    if asked not in _NAMES:
        raise UsageError(
            f"there is no vision encoder in {asked!r}",
            remedy=f"--vision-precision {FLOAT}, {' or '.join(_NAMES)}",
        )
    if not device.supports(asked):
        able = [other.name for other in catalogue() if other.kind == device.kind and other.supports(asked)]
        others = able or [other.name for other in catalogue() if other.supports(asked)]
        raise UsageError(
            f"{device.name} has no units for a vision encoder in {asked}"
            + (f" (SM {device.sm.value})" if device.sm is not None else ""),
            remedy=f"--vision-precision {'int8' if device.supports('int8') else FLOAT}, "
            f"or --target {', '.join(others[:_MOST_NAMED])}",
        )
    found = _NAMES[asked]
    if device.sm is None:
        _check_processor(asked, plan)
    elif not any(name.startswith("tensorrt") for name in dialects_for(device, replace(plan, vision_linears=found))):
        cause = f"--kv-cache {plan.cache}" if plan.cache is not None else f"--precision {plan.name}"
        raise UsageError(
            f"on {device.name} it is TensorRT that multiplies vision in {asked}, and a bundle with {cause} has no "
            "graphs for it",
            remedy=f"leave {cause} out, or use --vision-precision {FLOAT}",
        )
    return found


def _check_processor(asked: str, plan: PrecisionPlan) -> None:
    if plan.activations != "float32":
        raise UsageError(
            f"processors multiply {asked} beside float32, and --precision {plan.name} computes in {plan.activations}",
            remedy=f"use --precision int4 or fp32, or --vision-precision {FLOAT}",
        )


def with_vision(choice: PrecisionChoice, vision: VisionLinears | None) -> PrecisionChoice:
    """The choice with a plan whose vision graph has these linears."""
    return replace(choice, plan=replace(choice.plan, vision_linears=vision))


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedVision:
    """A calibrated encoder for one export; `data` names the examples, of which there were `samples`."""

    calibration: VisionCalibration
    samples: int
    data: str

    def quantiser(self, others: Quantiser) -> Quantiser:
        """The codes; whatever is not of vision is for `others`."""
        return VisionQuantiser(self.calibration, others)

    def input_scales(self) -> dict[str, float]:
        """What the inputs of linears are divided by, by the tensors of their weights."""
        return input_scales(self.calibration)

    def add_to(self, report: Told) -> None:
        """Say in `quantization.json` how each product was rounded, and how far the features are from the original's."""
        found = self.calibration
        stages = [found.stage(place).report for place in range(found.stages)]
        methods = {
            name: one.method
            for place, stage in enumerate(stages)
            for one in stage.linears
            for name in stage_linears(found, place)[one.linear]
        }
        for tensor in report["tensors"]:
            tensor["method"] = methods.get(tensor["name"], tensor["method"])
        report["vision"] = {
            "stored_as": found.form,
            "data": self.data,
            "samples": self.samples,
            "pictures": found.pictures,
            "held_out": found.held_out,
            "rows": found.rows,
            "features_error": _short(stages[-1].relative_error),
            "stages": [_told(stage) for stage in stages],
        }


def calibrate_vision_for_export(
    source: CalibrationSource,
    vision: VisionLinears,
    data: str | None,
    directory: Path,
    *,
    max_context: int,
    progress: Progress = silent,
) -> CalibratedVision:
    """Calibrate the vision graph's linears; `data` is a file of examples, or None for builtin ones.

    Raises `InputError` for examples that cannot be used, `DeviceError` and `ExportError` for too little memory or disk.
    """
    config = source.config
    # Nobody chose the builtin ones, so they need not fit the context that the bundle is for.
    samples, told = chosen_samples(
        source, data, max_context=max_context, count=VISION_EXAMPLES, builtin_context=config.max_position_embeddings
    )
    _require_memory(config)
    if not directory.exists():
        _require_space(directory.parent, config, sum(sample.rows for sample in samples))
    calibration = calibrate_vision(
        source, samples, vision, directory, fingerprint=source.fingerprint(), progress=progress
    )
    return CalibratedVision(calibration=calibration, samples=len(samples), data=told)


def vision_directory(output: Path) -> Path:
    """Where what was found for a bundle lies until it is written; what was killed goes on from there."""
    return output.resolve().with_name(f".{output.resolve().name}.vision")


def remove_vision(output: Path) -> None:
    """Remove it: the bundle has what was in it."""
    shutil.rmtree(vision_directory(output), ignore_errors=True)


def _told(stage: VisionStageReport) -> Told:
    told: Told = _short(asdict(stage))
    return told


def _require_memory(config: ModelConfig) -> None:
    """The largest product with its codes, and the scores of a picture's attention."""
    largest = max(config.vision_hidden_size * config.vision_intermediate_size, config.hidden_size**2)
    of_scores = 3 * 4 * config.vision_heads * config.max_num_patches**2
    of_layer = 4 * sum(
        spec.parameters
        for name, spec in config.tensors().items()
        if name.startswith(f"{TOWER_PREFIX}encoder.layers.0.")
    )
    resident_bytes = _BASE_BYTES + of_layer + max(_WEIGHT_BYTES * largest, of_scores)
    require_memory(
        "calibrating the vision encoder",
        resident_bytes=resident_bytes,
        mapped_bytes=2 * resident_bytes,
        remedy=f"raise the limit, export on another machine, or with --vision-precision {FLOAT}",
    )


def _require_space(parent: Path, config: ModelConfig, rows: int) -> None:
    """The rows before and after a layer, what waits inside it, and the artefacts."""
    waiting = 4 * config.vision_hidden_size + max(config.vision_intermediate_size, config.hidden_size)
    weights = sum(spec.parameters for name, spec in config.tensors().items() if name.startswith(TOWER_PREFIX))
    needed_bytes = 4 * rows * waiting + weights
    parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(parent).free
    if needed_bytes > free_bytes:
        raise ExportError(
            f"calibrating the vision encoder needs {needed_bytes / 1e6:,.0f} MB beside the bundle, "
            f"{parent} has {free_bytes / 1e6:,.0f} MB free",
            remedy="free some space, or write the bundle elsewhere with -o",
        )


def _short(value: Any) -> Any:
    """Numbers to six digits, as in the rest of the report."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return value
