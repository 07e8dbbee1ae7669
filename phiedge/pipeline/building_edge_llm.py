"""The Edge-LLM half of `build`: from a bundle to the files that build engines on the device, each held to the bundle.

    logits of our own -> checkpoint -> exporter -> structure, weights -> vision graph -> configurations -> numbers

What can fail early is asked early: our own logits, the exporter's release, memory and disk come before the long part.
The checkpoint is written for the exporter alone and does not stay.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from phiedge import __version__
from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.edge_llm import built
from phiedge.engines.edge_llm.device_files import patch_language_config, write_visual_configs
from phiedge.engines.edge_llm.memory_need import require_memory_to_export, written_bytes
from phiedge.engines.edge_llm.run import run_exporter
from phiedge.engines.edge_llm.structure import check_structure
from phiedge.engines.edge_llm.tool import Exporter, ExporterChoice, find_exporter
from phiedge.engines.edge_llm.unsafe import check_safe
from phiedge.engines.engine_record import BuiltEngine, EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.errors import MissingExtraError
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.pipeline.whole_bundle import require_whole
from phiedge.progress import Progress, silent
from phiedge.runtime.embeddings import read_positions
from phiedge.runtime.goldens import Golden

_CHECKPOINT, _EXPORTED = "checkpoint", "exported"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeBuild:
    """A bundle, the exporter, and our own logits, which what it makes is held to."""

    bundle: Bundle
    exporter: Exporter
    wanted: Sequence[Golden] = field(repr=False)


def build_edge_llm(bundle: Bundle, choice: ExporterChoice, progress: Progress = silent) -> BuiltEngine:
    """Build `engines/edge-llm` of `bundle`.

    Raises `BundleError` for a bundle that Edge-LLM cannot take or that is damaged, `ToolError` for an exporter that is
    missing, of another release or that failed, `ToolOutputError` where it reported success and what it wrote is not the
    model, `DeviceError` where memory is short, `MissingExtraError`.
    """
    _require_onnx()
    from phiedge.pipeline.edge_llm.language_check import our_logits

    built.check_buildable(bundle)
    exporter = find_exporter(choice, progress)
    facts = bundle.manifest.facts
    require_memory_to_export(facts)
    with EngineWriter(bundle, built.ENGINE_NAME) as writer:
        vision = bundle.manifest.graph_files(bundle.manifest.dialects[built.DIALECT].vision)
        vision_bytes = sum(entry.bytes for entry in vision.values())
        writer.require_space(written_bytes(facts, vision_bytes=vision_bytes))
        require_whole(bundle, progress)
        build = EdgeBuild(bundle=bundle, exporter=exporter, wanted=our_logits(bundle))
        image_token_id = _export_language(build, writer.path, progress)
        _write_visual(bundle, writer.path / built.VISUAL, image_token_id)
        checks = _check_numbers(build, writer.path, progress)
        told = {"checks": asdict(checks), "commands": built.commands(bundle), "tools": exporter.versions}
        (writer.path / built.CHECKS).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

        def describe(files: Mapping[str, FileEntry]) -> EngineRecord:
            return built.describe(bundle, files, exporter=exporter, checks=checks, phiedge_version=__version__)

        return writer.commit(describe, progress)


def _export_language(build: EdgeBuild, out: Path, progress: Progress) -> int:
    """Write `llm/`, held to its structure, and return the id of the token that stands for a picture's patch."""
    facts = build.bundle.manifest.facts
    checkpoint = write_checkpoint(build.bundle, "awq", out / _CHECKPOINT, progress=progress)
    tensors = check_safe(checkpoint)
    said = run_exporter(build.exporter, checkpoint, out / _EXPORTED, progress=progress)
    said.check(tensors=tensors)
    image_token_id: int = json.loads((checkpoint / "config.json").read_bytes())["image_token_id"]
    (out / _EXPORTED / built.LANGUAGE).rename(out / built.LANGUAGE)
    shutil.rmtree(out / _EXPORTED)
    shutil.rmtree(checkpoint)
    check_structure(out / built.LANGUAGE / built.GRAPH, facts, layers=facts.num_layers)
    patch_language_config(out / built.LANGUAGE / "config.json", facts, image_token_id=image_token_id)
    return image_token_id


def _write_visual(bundle: Bundle, out: Path, image_token_id: int) -> None:
    from phiedge.exporters.packed_vision import write_packed_vision

    out.mkdir()
    graph = bundle.file(bundle.manifest.dialects[built.DIALECT].vision)
    write_packed_vision(graph, read_positions(bundle), bundle.manifest.facts, out / built.GRAPH)
    write_visual_configs(out, bundle.manifest.facts, image_token_id=image_token_id)


def _check_numbers(build: EdgeBuild, out: Path, progress: Progress) -> built.Checks:
    from phiedge.pipeline.edge_llm.language_check import check_language
    from phiedge.pipeline.edge_llm.vision_check import check_vision
    from phiedge.pipeline.edge_llm.weights_check import check_weights

    bundle = build.bundle
    language, visual = (out / name / built.GRAPH for name in (built.LANGUAGE, built.VISUAL))
    weights = check_weights(bundle, language, layers=bundle.manifest.facts.num_layers, progress=progress)
    features = check_vision(bundle, visual, progress)
    logits = check_language(bundle, language, visual, build.wanted, progress)
    return built.Checks(
        weights=weights,
        cosine=min(row.cosine for row in logits),
        features=max(row.distance for row in features),
    )


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnx_ir  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(what="--backend edge-llm", extra="export", missing=error.name) from error
