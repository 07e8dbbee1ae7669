"""`export`: open the checkpoint, write the graphs, quantise, try the result, and give the bundle its name.

Nothing is visible under the bundle's name before all of it is there.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from phiedge import __version__
from phiedge.bundle import Bundle, BundleWriter, Manifest, ModelSource
from phiedge.calibration.int4 import RoundToNearest
from phiedge.calibration.report import quantisation_rows, quantisation_totals
from phiedge.devices import Device, find
from phiedge.errors import UsageError
from phiedge.exporters.checkpoint import TEMPLATE_FILE, TOKENIZER_FILE, Checkpoint, open_checkpoint
from phiedge.exporters.graphs import GraphFacts, write_graphs
from phiedge.exporters.precision import FP32, PrecisionChoice, PrecisionPlan, choose_precision
from phiedge.pipeline.comparison import end_to_end, task_accuracy
from phiedge.progress import Progress, silent
from phiedge.reference.scenes import draw_scene
from phiedge.runtime.goldens import GOLDENS_FILE, Golden, GoldenQuestion, record, save
from phiedge.runtime.session import Session

DEFAULT_CONTEXT = 8192
QUANTIZATION_FILE = "quantization.json"
_TRIAL_CONTEXT = 2048  # enough for the goldens and the suite, whatever the bundle can hold
_COMPARED_PARAMETERS = 500_000_000  # above this no second copy is made at fp32 to compare with
_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "tokenizers", "torch")


def export(
    model: str = "reference",
    *,
    target: str,
    output: Path,
    precision: str = "auto",
    calibration: str = "none",
    max_context: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Export `model` ("reference", a checkpoint directory or a Hub id) for the device `target` into the directory `output`.

    `max_context` bounds prompt, pictures and answer together, in tokens; by default it is what the model has positions
    for, at most 8192. An existing bundle is replaced only with `overwrite`. The same input gives the same bytes.

    Raises `UsageError` (`UnknownDeviceError`), `CheckpointError`, `ExportError`, `BundleError`.
    """
    device = find(target)
    choice = choose_precision(precision, sm=_sm(device))
    _check_calibration(calibration)
    with BundleWriter(output, overwrite=overwrite) as writer, open_checkpoint(model) as checkpoint:
        checkpoint.check()
        context = max_context or min(checkpoint.config.max_position_embeddings, DEFAULT_CONTEXT)
        written, manifest = _write(checkpoint, choice.plan, context, device, writer.path, progress)
        with _trial(writer.preview(manifest)) as session:
            goldens = record(session, golden_questions())
            report = _report(checkpoint, choice, written, session, goldens, progress)
        save(goldens, writer.path / GOLDENS_FILE)
        (writer.path / QUANTIZATION_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        return writer.commit(replace(manifest, goldens=GOLDENS_FILE, quantization=QUANTIZATION_FILE), progress)


def golden_questions() -> tuple[GoldenQuestion, ...]:
    """What every bundle is asked at export: text alone, two shapes of picture, with and without thinking."""
    wide, tall = (
        np.asarray(draw_scene(seed, size=size, place=place).picture)
        for seed, size, place in ((1, (320, 176), "kiosk"), (2, (144, 224), "shelf"))
    )
    return (
        GoldenQuestion(name="text", prompt="How many sides has a box?"),
        GoldenQuestion(name="picture", prompt="How many buttons are there?", pictures=(wide,)),
        GoldenQuestion(name="thinking", prompt="How many products are there?", pictures=(tall,), think="on"),
        GoldenQuestion(name="two pictures", prompt="What has changed?", pictures=(tall, wide), think="auto"),
    )


def _write(
    checkpoint: Checkpoint, plan: PrecisionPlan, context: int, device: Device, directory: Path, progress: Progress
) -> tuple[GraphFacts, Manifest]:
    """Fill `directory` with graphs, tables, tokenizer and template; returns what was written, and the manifest for it."""
    written = write_graphs(
        checkpoint,
        precision=plan,
        max_context=context,
        out_dir=directory,
        quantiser=RoundToNearest(),
        progress=progress,
    )
    for name in (TOKENIZER_FILE, TEMPLATE_FILE):
        shutil.copyfile(checkpoint.path / name, directory / name)
    sm = None if device.sm is None else device.sm.value
    return written, Manifest(
        phiedge_version=__version__,
        model=ModelSource(
            name=checkpoint.id or ("phiedge-reference" if checkpoint.source == "reference" else checkpoint.path.name),
            source=checkpoint.source,
            id=checkpoint.id,
            revision=checkpoint.revision,
            files=checkpoint.files(progress),
        ),
        facts=checkpoint.config.facts(),
        precision=plan.record(embed_tokens=written.embed_tokens.dtype),
        dialects={written.dialect: written.graphs},
        embed_tokens=written.embed_tokens,
        positions=written.positions,
        tokenizer=TOKENIZER_FILE,
        chat_template=TEMPLATE_FILE,
        target={"name": device.name, "title": device.title, "sm": sm},
        tools=_tools(),
        goldens=None,
        quantization=None,
    )


def _report(
    checkpoint: Checkpoint,
    choice: PrecisionChoice,
    written: GraphFacts,
    session: Session,
    goldens: list[Golden],
    progress: Progress,
) -> dict[str, Any]:
    """`quantization.json`: what was done to each tensor, and what it cost end to end."""
    plan = choice.plan
    report: dict[str, Any] = {
        "precision": plan.name,
        "method": "none" if plan.group_size is None else "round to nearest",
        "group_size": plan.group_size,
        "notes": [] if choice.note is None else [choice.note],
        "totals": quantisation_totals(written.quantised),
        "tensors": quantisation_rows(written.quantised),
        "end_to_end": None,
        "accuracy": None,
    }
    if plan == FP32:
        report["notes"].append("fp32 is what the others are compared with")
        return report
    parameters = sum(int(np.prod(spec.shape)) for spec in checkpoint.config.tensors().values() if spec.used)
    if parameters > _COMPARED_PARAMETERS:
        report["notes"].append(
            f"not compared with fp32: {parameters / 1e9:.1f} billion parameters need {4 * parameters / 1e9:.0f} GB for it"
        )
        return report
    with _at_fp32(checkpoint, session.bundle, progress) as fp32:
        report["end_to_end"] = end_to_end(session, goldens, fp32)
        if checkpoint.source == "reference":
            report["accuracy"] = task_accuracy(session, fp32, progress=progress)
    return report


@contextmanager
def _at_fp32(checkpoint: Checkpoint, bundle: Bundle, progress: Progress) -> Iterator[Session]:
    """The same checkpoint at fp32, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="phiedge-fp32-") as directory:
        context = max(dialect.max_context for dialect in bundle.manifest.dialects.values())
        device = find(str(bundle.manifest.target["name"]))
        with BundleWriter(Path(directory) / "bundle") as writer:
            _, manifest = _write(checkpoint, FP32, context, device, writer.path, progress)
            with _trial(writer.preview(manifest)) as session:
                yield session


def _trial(bundle: Bundle) -> Session:
    context = max(dialect.max_context for dialect in bundle.manifest.dialects.values())
    return Session.open(bundle, max_context=min(context, _TRIAL_CONTEXT))


def _sm(device: Device) -> int | None:
    """The compute capability as one number (8.7 is 87), None without a GPU."""
    return None if device.sm is None else int(device.sm.value.replace(".", ""))


def _check_calibration(calibration: str) -> None:
    if calibration != "none":
        raise UsageError(
            f"there is no calibration {calibration!r} in this version: int4 weights are rounded to nearest",
            remedy="leave --calibration out, or say --calibration none",
        )


def _tools() -> dict[str, str]:
    """The versions of the libraries that took part."""
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # another distribution of the same module, such as onnxruntime-gpu
            continue
    return found
