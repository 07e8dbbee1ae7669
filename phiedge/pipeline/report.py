"""`quantization.json`: what was done to each tensor, and what that cost, beside the same checkpoint at fp32."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from phiedge.bundle import Bundle, FileEntry, Manifest, hash_file
from phiedge.bundle.reading import found_files
from phiedge.calibration.report import quantisation_rows, quantisation_totals
from phiedge.engines.backends import DEFAULT_BACKEND
from phiedge.exporters.graphs import GraphFacts
from phiedge.exporters.precision import FP32, PrecisionChoice
from phiedge.exporters.source import ModelSource
from phiedge.pipeline.comparison import end_to_end, task_accuracy
from phiedge.pipeline.contents import redescribe, write_contents
from phiedge.pipeline.report_page import report_page
from phiedge.progress import Labelled, Progress, silent
from phiedge.reference.evaluate import SUITE_CONTEXT
from phiedge.runtime.goldens import GOLDENS_CONTEXT, Golden
from phiedge.runtime.session import Session

QUANTIZATION_FILE, PAGE_FILE = "quantization.json", "quantization.html"
COMPARED_PARAMETERS = 500_000_000  # above this no second copy is made at fp32 to compare with
TRIED_PARAMETERS = 1_000_000_000  # above this the bundle is not run at export: that takes its size in memory
SPARE_BYTES = 64_000_000  # of the disk, which a copy must leave free


def is_tried(source: ModelSource) -> bool:
    """Whether the machine that exports a model runs it, too."""
    return _parameters(source) <= TRIED_PARAMETERS


def begin_report(source: ModelSource, choice: PrecisionChoice, written: GraphFacts) -> dict[str, Any]:
    """The report on what was written, as JSON values, before anything was run.

    `calibration` is None where weights were rounded without data (`calibrating.py` fills it), `end_to_end` for a model
    that is not compared with fp32, `accuracy` for one that has no suite; `notes` say why.
    """
    plan = choice.plan
    notes = [*source.notes, *([] if choice.note is None else [choice.note])]
    if not is_tried(source):
        notes.append(
            f"not run at export: {_parameters(source) / 1e9:.1f} billion parameters; `phiedge build BUNDLE` on a "
            "machine that has the memory runs it and records what `phiedge verify` compares with"
        )
    return {
        "precision": plan.name,
        "method": "none" if plan.decoder.startswith("float") else "round to nearest",
        "group_size": plan.group_size,
        "notes": notes,
        "totals": quantisation_totals(written.quantised),
        "tensors": quantisation_rows(written.quantised),
        "calibration": None,
        "kv_cache": None,
        "vision": None,
        "end_to_end": None,
        "accuracy": None,
    }


def write_report(report: dict[str, Any], manifest: Manifest, directory: Path) -> None:
    """Write the report into a bundle's directory, as data and as a page to look at."""
    (directory / QUANTIZATION_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    page = report_page(report, model=manifest.model.name, target=str(manifest.target["name"]))
    (directory / PAGE_FILE).write_text(page, encoding="utf-8")


def compare(
    report: dict[str, Any],
    source: ModelSource,
    choice: PrecisionChoice,
    session: Session,
    goldens: Sequence[Golden],
    progress: Progress = silent,
) -> None:
    """Add to `report` how what `session` has open compares with the same checkpoint at fp32, or why it is not compared.

    The copy at fp32 stands inside the bundle's directory for as long as it takes.
    """
    notes = report["notes"]
    obstacle = _not_compared(source, choice, session.bundle.path)
    if obstacle is not None:
        notes.append(obstacle)
        return
    with _at_fp32(source, session.bundle, progress) as fp32:
        report["end_to_end"] = end_to_end(session, goldens, fp32, progress=progress)
        if source.source == "reference" and session.max_context >= SUITE_CONTEXT:
            report["accuracy"] = task_accuracy(session, fp32, progress=progress)
        elif source.source == "reference":
            notes.append(
                f"accuracy was not measured: its questions need a context of {SUITE_CONTEXT} tokens, "
                f"the bundle has {session.max_context}"
            )


def open_trial(bundle: Bundle, source: ModelSource) -> Session:
    """A session to try a bundle with, on as much context as goldens and suite need.

    It computes on the CPU, also for a GPU and beside one. A small model runs on one thread: its sums then have one
    order, and its goldens are the same bytes, whatever number of cores the machine has.
    """
    context = min(bundle.manifest.max_context, GOLDENS_CONTEXT)
    threads = 1 if _parameters(source) <= COMPARED_PARAMETERS else None
    return Session.open(bundle, max_context=context, threads=threads, backend=DEFAULT_BACKEND)


def _not_compared(source: ModelSource, choice: PrecisionChoice, directory: Path) -> str | None:
    """Why there is no comparison with fp32, or None if there is one."""
    if choice.plan == FP32:
        return "fp32 is what other precisions are compared with"
    parameters = _parameters(source)
    copy_bytes, free_bytes = 4 * parameters, shutil.disk_usage(directory).free
    if parameters > COMPARED_PARAMETERS:
        return f"not compared with fp32: {parameters / 1e9:.1f} billion parameters would take {copy_bytes / 1e9:.0f} GB"
    if copy_bytes + SPARE_BYTES > free_bytes:
        return (
            f"not compared with fp32: the copy takes {copy_bytes / 1e6:,.0f} MB and leaves less than "
            f"{SPARE_BYTES / 1e6:,.0f} MB of the {free_bytes / 1e6:,.0f} MB that are free"
        )
    return None


def _parameters(source: ModelSource) -> int:
    return sum(spec.parameters for spec in source.config.tensors().values() if spec.used)


@contextmanager
def _at_fp32(source: ModelSource, bundle: Bundle, progress: Progress) -> Iterator[Session]:
    """The same checkpoint at fp32, in a directory that is gone afterwards.

    It stands inside the unfinished bundle, so that what a killed export leaves of it is removed with the rest.
    """
    with tempfile.TemporaryDirectory(prefix="fp32-", dir=bundle.path) as name:
        directory = Path(name)
        written = write_contents(
            source,
            FP32,
            max_context=bundle.manifest.max_context,
            directory=directory,
            progress=Labelled(progress=progress, label="fp32"),
        )
        with open_trial(_opened(directory, redescribe(bundle.manifest, FP32, written)), source) as session:
            yield session


def _opened(directory: Path, manifest: Manifest) -> Bundle:
    entries = {
        name: FileEntry(sha256=hash_file(directory / name), bytes=(directory / name).stat().st_size)
        for name in found_files(directory)
    }
    return Bundle(path=directory, manifest=replace(manifest, files=entries))
