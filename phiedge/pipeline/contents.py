"""What an export writes into a bundle's directory, and the manifest that describes it.

Goldens and the report come on top (`exporting.py`): they need a bundle that runs already.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from phiedge import __version__
from phiedge.bundle import Manifest, ModelSource
from phiedge.calibration.int4 import RoundToNearest
from phiedge.devices import Device
from phiedge.exporters.checkpoint import TEMPLATE_FILE, TOKENIZER_FILE, Checkpoint
from phiedge.exporters.graphs import GraphFacts, write_graphs
from phiedge.exporters.precision import PrecisionPlan
from phiedge.progress import Progress, silent

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "tokenizers", "torch")


def write_contents(
    checkpoint: Checkpoint,
    plan: PrecisionPlan,
    *,
    max_context: int,
    directory: Path,
    require_space: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> GraphFacts:
    """Fill `directory` with graphs, tables, tokenizer and template; for `require_space` see `write_graphs`."""
    written = write_graphs(
        checkpoint,
        precision=plan,
        max_context=max_context,
        out_dir=directory,
        quantiser=RoundToNearest(),
        require_space=require_space,
        progress=progress,
    )
    for name in (TOKENIZER_FILE, TEMPLATE_FILE):
        shutil.copyfile(checkpoint.path / name, directory / name)
    return written


def describe(
    checkpoint: Checkpoint, plan: PrecisionPlan, written: GraphFacts, device: Device, progress: Progress = silent
) -> Manifest:
    """The manifest for what `write_contents` wrote; hashes every file of the checkpoint."""
    named = "phiedge-reference" if checkpoint.source == "reference" else checkpoint.path.resolve().name
    return Manifest(
        phiedge_version=__version__,
        model=ModelSource(
            name=checkpoint.id or named,
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
        target={
            "name": device.name,
            "title": device.title,
            "sm": None if device.sm is None else device.sm.value,
        },
        tools=_tools(),
        goldens=None,
        quantization=None,
    )


def redescribe(manifest: Manifest, plan: PrecisionPlan, written: GraphFacts) -> Manifest:
    """The manifest for the same checkpoint written again at another precision."""
    return replace(
        manifest,
        precision=plan.record(embed_tokens=written.embed_tokens.dtype),
        dialects={written.dialect: written.graphs},
        embed_tokens=written.embed_tokens,
        positions=written.positions,
    )


def _tools() -> dict[str, str]:
    """The versions of the libraries that took part, but for what another distribution provides (onnxruntime-gpu)."""
    installed = {name: _version(name) for name in _TOOLS}
    return {name: found for name, found in installed.items() if found is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
