"""`--calibration`: which examples, where the artefacts lie meanwhile, and what the report says of it."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from phiedge.calibration.methods import Settings
from phiedge.calibration.samples import Kind, Sample
from phiedge.calibration.streaming import Calibration, calibrate
from phiedge.errors import ExportError, UsageError
from phiedge.exporters.precision import PrecisionPlan
from phiedge.pipeline.builtin_examples import builtin_examples
from phiedge.pipeline.calibration_file import read_examples
from phiedge.pipeline.calibration_samples import CalibrationSource, SampleBuilder
from phiedge.progress import Progress, silent

BUILTIN, NONE = "builtin", "none"
FLOAT32_PARAMETERS = 1_000_000_000  # larger models are computed in the type that they were trained in
_DIGITS = 6


def check_calibration(calibration: str, plan: PrecisionPlan) -> None:
    """Refuse what cannot be calibrated, before anything is read. Raises `UsageError`."""
    if calibration == NONE:
        return
    if plan.decoder_bits is None:
        raise UsageError(
            f"--precision {plan.name} has no small integers to calibrate",
            remedy="leave --calibration out, or say --precision int4",
        )
    if calibration != BUILTIN and not Path(calibration).is_file():
        raise UsageError(
            f"there is no calibration {calibration!r}", remedy="--calibration builtin, none, or a FILE.jsonl that is there"
        )


def calibration_directory(output: Path) -> Path:
    """Where the artefacts for a bundle lie until it is written; what was killed goes on from there."""
    return output.resolve().with_name(f".{output.resolve().name}.calibration")


def calibrate_for_export(
    source: CalibrationSource,
    plan: PrecisionPlan,
    calibration: str,
    directory: Path,
    *,
    max_context: int,
    progress: Progress = silent,
) -> tuple[Calibration, Sequence[Sample]]:
    """Calibrate the decoder's linears for `plan`. Raises `InputError` for examples that cannot be used."""
    assert plan.group_size is not None
    assert plan.decoder_bits is not None
    config = source.config
    examples = (
        list(builtin_examples(patch_size=config.patch_size, max_patches=config.max_num_patches))
        if calibration == BUILTIN
        else read_examples(Path(calibration))
    )
    samples = SampleBuilder(source, max_context=max_context).build(examples)
    parameters = sum(spec.parameters for spec in config.tensors().values())
    compute = torch.float32 if parameters <= FLOAT32_PARAMETERS else torch.bfloat16
    if not directory.exists():
        _require_space(directory.parent, source, samples, compute)
    calibrated = calibrate(
        source,
        samples,
        Settings(group_size=plan.group_size, bits=plan.decoder_bits),
        directory,
        fingerprint=source.fingerprint(),
        compute=compute,
        progress=progress,
    )
    return calibrated, samples


def calibration_report(calibration: Calibration, samples: Sequence[Sample], told: str) -> dict[str, Any]:
    """What `quantization.json` says: per layer the methods, what each lost, and what became of the held-out rows."""
    kinds = Counter(int(kind) for sample in samples for kind in sample.kinds)
    layers = []
    for index in range(calibration.layers):
        layer = asdict(calibration.layer(index).report)
        del layer["seconds"]  # it is not a property of the bundle
        layers.append(_short(layer))
    return {
        "data": told if told == BUILTIN else "file",
        "samples": len(samples),
        "held_out": sum(sample.held_out for sample in samples),
        "rows": {kind.name.lower(): kinds[kind.value] for kind in Kind},
        "divergence": {name: asdict(found) for name, found in calibration.divergence.items()},
        "layers": layers,
    }


def methods_by_name(calibration: Calibration) -> dict[str, str]:
    """The method that was chosen for each calibrated tensor."""
    from phiedge.calibration.decoder_layer import linear_name

    return {
        linear_name(layer, linear.linear): linear.method  # type: ignore[arg-type]
        for layer in range(calibration.layers)
        for linear in calibration.layer(layer).report.linears
    }


def _require_space(parent: Path, source: CalibrationSource, samples: Sequence[Sample], compute: torch.dtype) -> None:
    """The rows before and after a layer, what waits inside it, and the artefacts."""
    config, rows = source.config, sum(sample.rows for sample in samples)
    waiting = 3 * 4 * config.hidden_size + compute.itemsize * (config.hidden_size + config.intermediate_size)
    decoder = sum(spec.parameters for name, spec in config.tensors().items() if name.startswith("model.layers."))
    needed_bytes = rows * waiting + decoder * 9 // 16
    parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(parent).free
    if needed_bytes > free_bytes:
        raise ExportError(
            f"calibration needs {needed_bytes / 1e6:,.0f} MB beside the bundle, {parent} has {free_bytes / 1e6:,.0f} MB",
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
