"""What an export writes into a bundle's directory, and the manifest that describes it.

Goldens and the report come on top (`exporting.py`): they need a bundle that runs already.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from phiedge import __version__
from phiedge.bundle import Manifest, ModelSource
from phiedge.calibration.int4 import RoundToNearest
from phiedge.devices import Device
from phiedge.exporters import source as sources
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.checkpoint import TEMPLATE_FILE, TOKENIZER_FILE
from phiedge.exporters.graphs import Continuation, GraphFacts, write_graphs
from phiedge.exporters.precision import PrecisionPlan
from phiedge.exporters.quantised import Quantiser
from phiedge.progress import Progress, silent

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "tokenizers", "torch")


def dialects_for(device: Device, plan: PrecisionPlan) -> tuple[str, ...]:
    """The dialects of a bundle for `device`: ONNX Runtime's always, as that runs wherever the bundle is tried.

    A Jetson may have a TensorRT of either form, a desktop's is the one it installs; the older form has no 8-bit floats.
    TensorRT has no attention in float32, and here none with a cache in int8: such bundles are for ONNX Runtime alone.
    """
    if device.sm is None or plan.activations == plan.decoder == "float32" or plan.cache is not None:
        return ("ort",)
    if "float8" in (plan.decoder, plan.vision_linears):
        return ("ort", "tensorrt")
    return ("ort", "tensorrt", "tensorrt-10.3") if device.kind == "jetson" else ("ort", "tensorrt")


def write_contents(
    source: sources.ModelSource,
    plan: PrecisionPlan,
    *,
    dialects: Sequence[str] = ("ort",),
    max_context: int,
    directory: Path,
    quantiser: Quantiser | None = None,
    cache_scales: CacheScales | None = None,
    activation_scales: Mapping[str, float] | None = None,
    vision_scales: Mapping[str, float] | None = None,
    notice: Callable[[str], None] | None = None,
    require_space: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> GraphFacts:
    """Fill `directory` with graphs, tables, tokenizer and template; for the other arguments see `write_graphs`.

    By default weights are rounded to nearest. With `notice` a journal is kept, what an earlier export left is taken up,
    and `notice` told if it has to go.
    """
    written = write_graphs(
        source,
        precision=plan,
        dialects=dialects,
        max_context=max_context,
        out_dir=directory,
        quantiser=quantiser or RoundToNearest(),
        cache_scales=cache_scales,
        activation_scales=activation_scales,
        vision_scales=vision_scales,
        continuation=Continuation(versions=_versions(), notice=notice) if notice is not None else None,
        require_space=require_space,
        progress=progress,
    )
    for name in (TOKENIZER_FILE, TEMPLATE_FILE):
        shutil.copyfile(source.path / name, directory / name)
    return written


def describe(
    source: sources.ModelSource,
    plan: PrecisionPlan,
    written: GraphFacts,
    device: Device,
    progress: Progress = silent,
) -> Manifest:
    """The manifest for what `write_contents` wrote."""
    return Manifest(
        phiedge_version=__version__,
        model=ModelSource(
            name=source.name,
            source=source.source,
            id=source.id,
            revision=source.revision,
            files=source.files(progress),
        ),
        facts=source.config.facts(),
        precision=plan.record(embed_tokens=written.embed_tokens.dtype),
        dialects=written.dialects,
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
        dialects=written.dialects,
        embed_tokens=written.embed_tokens,
        positions=written.positions,
    )


def _versions() -> dict[str, str]:
    return _tools() | {"phiedge": __version__}


def _tools() -> dict[str, str]:
    """The versions of the libraries that took part, but for what another distribution provides (onnxruntime-gpu)."""
    installed = {name: _version(name) for name in _TOOLS}
    return {name: found for name, found in installed.items() if found is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
