"""The TensorRT-LLM half of `build`: the checkpoint that the installed version takes, and its build or load where it is.

Where it is not installed, the checkpoint is written and the command is said that its machine runs.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.engines.tensorrt_llm.build_tool import BuildRequest, run_build
from phiedge.engines.tensorrt_llm.commands import KINDS, Elsewhere, Kind, check_device, elsewhere, way_elsewhere
from phiedge.engines.tensorrt_llm.installation import Installation, find_installation
from phiedge.engines.tensorrt_llm.load_check import check_loads
from phiedge.errors import BundleError
from phiedge.exporters.checkpoints.directory import CheckpointDirectory, check_destination
from phiedge.exporters.checkpoints.text_model import has_tensor_scales
from phiedge.pipeline.repacking import beside, repack
from phiedge.progress import Progress, silent

_PICTURES = 2  # that a prompt has room for


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMBuild:
    """What was made: a checkpoint, an engine of the installed version or None, and what to run where there is none.

    `loaded_by` is the version of the PyTorch backend that loaded the checkpoint here.
    """

    kind: Kind
    checkpoint: Path
    installed: str | None
    engine: Path | None
    loaded_by: str | None
    elsewhere: Elsewhere | None


def build_tensorrt_llm(path: str | os.PathLike[str], *, progress: Progress = silent) -> LLMBuild:
    """Make of the bundle at `path` what TensorRT-LLM runs. What is there of an earlier build is replaced.

    Raises `DeviceError` for a device or version that cannot, and where the tool fails; `FormatError`, `BundleError`.
    """
    bundle = Bundle.open(path)
    sm = _sm(bundle)
    check_device(sm, bundle.manifest.precision.decoder, tensor_scales=has_tensor_scales(bundle))
    assert sm is not None
    installation = find_installation()
    way = installation.way if installation else way_elsewhere(sm)
    kind = KINDS[way]
    engine = beside(Path(path), "tensorrt-llm")
    check_destination(engine, overwrite=True)
    checkpoint = repack(path, kind, overwrite=True, progress=progress)
    request = _request(bundle, checkpoint, engine)
    if installation is None:
        return _made(kind, request, elsewhere=elsewhere(way, request))
    if installation.way == "load":
        log = checkpoint.with_name(f"{checkpoint.name}.load.log")
        version = check_loads(checkpoint, log, progress=progress)
        return _made(kind, request, installation=installation, loaded_by=version, elsewhere=elsewhere(way, request))
    return _made(kind, request, installation=installation, engine=_engine(bundle, installation, request, progress))


def _engine(bundle: Bundle, installation: Installation, request: BuildRequest, progress: Progress) -> Path:
    assert installation.tool is not None
    with CheckpointDirectory(request.output, overwrite=True) as directory:
        directory.require_space(2 * request.weights_bytes)  # the engine, and what the builder leaves beside it
        inside = BuildRequest(
            checkpoint=request.checkpoint,
            output=directory.path,
            max_context=request.max_context,
            pictures_tokens=request.pictures_tokens,
            weights_bytes=request.weights_bytes,
        )
        run_build(installation.tool, inside, facts=bundle.manifest.facts, progress=progress)
        record = {"engine": "tensorrt-llm", "version": installation.version, "checkpoint": request.checkpoint.name}
        return directory.commit(record, progress)


def _request(bundle: Bundle, checkpoint: Path, engine: Path) -> BuildRequest:
    weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    return BuildRequest(
        checkpoint=checkpoint,
        output=engine,
        max_context=bundle.manifest.max_context,
        pictures_tokens=min(_PICTURES * bundle.manifest.facts.max_num_patches, bundle.manifest.max_context),
        weights_bytes=weights,
    )


def _made(
    kind: Kind,
    request: BuildRequest,
    *,
    installation: Installation | None = None,
    engine: Path | None = None,
    loaded_by: str | None = None,
    elsewhere: Elsewhere | None = None,
) -> LLMBuild:
    return LLMBuild(
        kind=kind,
        checkpoint=request.checkpoint,
        installed=installation.version if installation else None,
        engine=engine,
        loaded_by=loaded_by,
        elsewhere=elsewhere,
    )


def _sm(bundle: Bundle) -> int | None:
    told = bundle.manifest.target.get("sm")
    if told is None:
        return None
    major, dot, minor = str(told).partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise BundleError(f"{bundle.path} names the compute capability {told!r}", remedy="export the bundle again")
    return 10 * int(major) + int(minor)
