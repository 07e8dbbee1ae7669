"""`--kv-cache`: what keys and values are kept as, where their scales come from, and what the report says of them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from phiedge.calibration.eight_bits import Format
from phiedge.calibration.kv_run import find_cache_scales
from phiedge.calibration.kv_scales import LayerCacheScales, Side, graph_scales
from phiedge.calibration.samples import Sample
from phiedge.devices import Device
from phiedge.devices.memory_limits import require_memory
from phiedge.errors import ExportError, UsageError
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import CacheType, PrecisionChoice
from phiedge.exporters.tensors import TOWER_PREFIX
from phiedge.pipeline.calibration_samples import CalibrationSource
from phiedge.pipeline.chosen_samples import chosen_samples
from phiedge.progress import Progress, silent

FLOAT, INT8 = "float", "int8"
# Scales of keys and values are maxima and means over many channels: they need far fewer rows than codes do.
CACHE_EXAMPLES = 32
_DIGITS = 6
_BASE_BYTES = 800_000_000  # torch, and the rows of a sample


def check_kv_cache(kv_cache: str, device: Device) -> CacheType | None:
    """The type of the cache that was asked for. Raises `UsageError` for one that is not, or not for this device."""
    if kv_cache == FLOAT:
        return None
    if kv_cache != INT8:
        raise UsageError(f"there is no cache {kv_cache!r}", remedy=f"--kv-cache {FLOAT} or {INT8}")
    if device.kind == "jetson":
        raise UsageError(
            f"--kv-cache {INT8} is for ONNX Runtime; the engine of {device.name} is TensorRT, whose cache is float16",
            remedy="leave --kv-cache out, or export for a target that ONNX Runtime serves: cpu, or a discrete GPU",
        )
    return "int8"


def with_cache(choice: PrecisionChoice, cache: CacheType | None) -> PrecisionChoice:
    """The choice with a plan that has this cache."""
    return replace(choice, plan=replace(choice.plan, cache=cache))


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """The scales of every layer's cache; `data`, `samples` and `rows` are what they were found with."""

    layers: tuple[LayerCacheScales, ...]
    data: str
    samples: int
    rows: int

    def graph_scales(self) -> CacheScales:
        """What the graph of a cache in int8 takes."""
        return graph_scales(self.layers)

    def _scales(self, side: Side, form: Format) -> list[float]:
        """One scale for each layer."""
        return [dict(layer.sides())[side].tensor[form].scale for layer in self.layers]

    def add_to(self, report: dict[str, Any], stored_as: CacheType | None) -> None:
        """Say in `quantization.json` which scales there are, and which the graph has.

        `int8` and `float8` are what engines with one scale for a layer's keys and one for its values take.
        """
        forms: dict[str, Any] = {
            form: {"key": self._scales("key", form), "value": self._scales("value", form)} for form in get_args(Format)
        }
        report["kv_cache"] = forms | {
            "data": self.data,
            "samples": self.samples,
            "rows": self.rows,
            "stored_as": stored_as,
            "graph_scales": None if stored_as is None else "channel",
            "graph_sha256": None if stored_as is None else self.graph_scales().digest(),
            "layers": [
                {"layer": place} | {side: _short(found.told()) for side, found in layer.sides()}
                for place, layer in enumerate(self.layers)
            ],
        }


def scales_for_export(
    source: CalibrationSource,
    data: str | None,
    directory: Path,
    *,
    compute: torch.dtype,
    max_context: int,
    progress: Progress = silent,
) -> CachePlan:
    """Find the scales of a cache for weights as they are; `data` is a file of examples, or None for builtin ones.

    Raises `InputError` for examples that cannot be used, `DeviceError` and `ExportError` for too little memory or disk.
    """
    config = source.config
    samples, told = chosen_samples(source, data, max_context=max_context, count=CACHE_EXAMPLES)
    _require_memory(config, compute)
    if not directory.exists():
        _require_space(directory.parent, config, sum(sample.rows for sample in samples))
    layers = find_cache_scales(
        source, samples, directory, fingerprint=source.fingerprint(), compute=compute, progress=progress
    )
    return cache_plan(layers, samples, data=told)


def cache_plan(layers: tuple[LayerCacheScales, ...], samples: Sequence[Sample], *, data: str) -> CachePlan:
    """The scales with what they were found with."""
    seen = [sample for sample in samples if not sample.held_out]
    return CachePlan(layers=layers, data=data, samples=len(seen), rows=sum(sample.rows for sample in seen))


def scales_directory(output: Path) -> Path:
    """Where what was found for a bundle lies until it is written."""
    return output.resolve().with_name(f".{output.resolve().name}.kv-scales")


def remove_scales(output: Path) -> None:
    """Remove it: the bundle has what was in it."""
    shutil.rmtree(scales_directory(output), ignore_errors=True)


def _require_memory(config: ModelConfig, compute: torch.dtype) -> None:
    """One layer's linears, the largest of them in float32 besides; before, the vision encoder and its scores."""
    layer = _parameters(config, "model.layers.0.")
    of_layer = layer * compute.itemsize + 4 * 2 * config.intermediate_size * config.hidden_size
    of_vision = 4 * _parameters(config, TOWER_PREFIX) + 3 * 4 * config.vision_heads * config.max_num_patches**2
    resident_bytes = _BASE_BYTES + max(of_layer, of_vision)
    require_memory(
        "finding the scales of a cache",
        resident_bytes=resident_bytes,
        mapped_bytes=2 * resident_bytes,
        remedy="raise the limit, export on another machine, or with --kv-cache float",
    )


def _require_space(parent: Path, config: ModelConfig, rows: int) -> None:
    """The rows before and after a layer."""
    needed_bytes = 2 * 4 * rows * config.hidden_size
    parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(parent).free
    if needed_bytes > free_bytes:
        raise ExportError(
            f"finding the scales of a cache needs {needed_bytes / 1e6:,.0f} MB beside the bundle, "
            f"{parent} has {free_bytes / 1e6:,.0f} MB free",
            remedy="free some space, or write the bundle elsewhere with -o",
        )


def _parameters(config: ModelConfig, prefix: str) -> int:
    return sum(spec.parameters for name, spec in config.tensors().items() if name.startswith(prefix))


def _short(value: Any) -> Any:
    """Numbers to six digits, as in the rest of the report."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _short(part) for key, part in value.items()}
    return value
