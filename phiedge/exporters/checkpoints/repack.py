"""A bundle as a checkpoint for another engine: the same codes, scales and norms in another order.

    write_checkpoint(Bundle.open("bundle"), "awq", "bundle.awq")

One tensor is in memory at a time; the directory has its name only when it is whole.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phiedge.bundle import MANIFEST_NAME, Bundle, hash_file
from phiedge.bundle.manifest import VISION_EIGHT_BITS
from phiedge.errors import FormatError, UsageError, nearest
from phiedge.exporters.checkpoints import awq, compressed, modelopt, trtllm_legacy
from phiedge.exporters.checkpoints.directory import CheckpointDirectory
from phiedge.exporters.checkpoints.readers import EDGE_LLM, TENSORRT_LLM, TRTLLM_BUILD, VLLM, check_readable
from phiedge.exporters.checkpoints.tensor_file import TensorOut, needed_bytes, write_tensors
from phiedge.exporters.checkpoints.text_model import check_int4, has_tensor_scales, llama_config
from phiedge.exporters.checkpoints.tokenizer_files import text_files, write_text_files
from phiedge.progress import Progress, silent

_SMALL_FILES_BYTES = 16_000_000  # tokenizer, template and configurations of the 15B take half of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a format makes of a bundle: its tensors, its `config.json`, and other files of JSON by name.

    `single_file` is what the one file of tensors is called where the format knows no shards. `readers` are those of
    this content, None for all of the format's.
    """

    tensors: list[TensorOut]
    config: Mapping[str, object]
    json_files: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    single_file: str | None = None
    readers: tuple[str, ...] | None = None


def _awq(bundle: Bundle) -> Contents:
    config = llama_config(bundle.manifest.facts, dtype="float16")
    return Contents(tensors=awq.awq_tensors(bundle), config=config | {"quantization_config": awq.awq_quantization()})


def _modelopt(bundle: Bundle) -> Contents:
    config = llama_config(bundle.manifest.facts, dtype="float16")
    readers = None
    if bundle.manifest.precision.decoder == "float8":
        readers = (TENSORRT_LLM, VLLM, EDGE_LLM) if has_tensor_scales(bundle) else (TENSORRT_LLM, VLLM)
    flat, nested = modelopt.modelopt_quantization(bundle)
    return Contents(
        tensors=modelopt.modelopt_tensors(bundle),
        readers=readers,
        config=config | {"quantization_config": flat},
        json_files={"hf_quant_config.json": nested},
    )


def _compressed(bundle: Bundle) -> Contents:
    return Contents(
        tensors=compressed.compressed_tensors(bundle),
        config=compressed.publisher_config(bundle)
        | {"quantization_config": compressed.compressed_quantization(bundle)},
        json_files={"preprocessor_config.json": compressed.preprocessor_config(bundle.manifest.facts)},
    )


def _legacy(bundle: Bundle) -> Contents:
    return Contents(
        tensors=trtllm_legacy.legacy_tensors(bundle),
        config=trtllm_legacy.legacy_config(bundle.manifest.facts),
        single_file=trtllm_legacy.FILE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: who reads it, with which sizes of groups of int4, whether also in FP8, and what is made.

    With `placeholder` they need a token for pictures; with `vision` the encoder is in it.
    """

    readers: tuple[str, ...]
    groups: tuple[int, ...]
    float8: bool
    placeholder: bool
    contents: Callable[[Bundle], Contents]
    vision: bool = False


FORMATS = {
    "awq": Format(readers=(EDGE_LLM, VLLM), groups=awq.GROUPS, float8=False, placeholder=True, contents=_awq),
    "modelopt": Format(
        readers=(TENSORRT_LLM, EDGE_LLM), groups=modelopt.GROUPS, float8=True, placeholder=True, contents=_modelopt
    ),
    "compressed-tensors": Format(
        readers=(VLLM,),
        groups=compressed.GROUPS,
        float8=True,
        placeholder=False,
        vision=True,
        contents=_compressed,
    ),
    "trtllm-legacy": Format(
        readers=(TRTLLM_BUILD,), groups=trtllm_legacy.GROUPS, float8=False, placeholder=True, contents=_legacy
    ),
}


def check_format(kind: str) -> None:
    """Raises `UsageError` for a format that does not exist."""
    if kind not in FORMATS:
        close = nearest(kind, FORMATS) or list(FORMATS)
        raise UsageError(f"there is no checkpoint format {kind!r}", remedy=f"use {' or '.join(close)}")


def check_holds(kind: str, *, decoder: str, group_size: int | None, vision: str, where: str) -> None:
    """See that the format `kind` holds such a model, before it is made. Raises `FormatError`, `UsageError`."""
    check_format(kind)
    if FORMATS[kind].vision and vision in VISION_EIGHT_BITS:
        raise FormatError(
            f"{kind} holds vision in floats, {where} has it in {vision}",
            remedy="use --vision-precision float for a bundle that other engines shall get this from",
        )
    if decoder == "float8" and FORMATS[kind].float8:
        return
    check_int4(decoder, group_size, kind, groups=FORMATS[kind].groups, where=where)


def write_checkpoint(
    bundle: Bundle,
    kind: str,
    destination: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write `bundle` as a checkpoint of the format `kind` into the directory `destination`, and return its path.

    An existing checkpoint of phiedge's is replaced only with `overwrite`. Raises `UsageError` for an unknown format,
    `FormatError` for a bundle that the format or its readers cannot hold, for a destination that is taken and for a
    full disk, `BundleError` for a damaged bundle.
    """
    check_format(kind)
    chosen = FORMATS[kind]
    contents = chosen.contents(bundle)
    files = text_files(bundle, placeholder=chosen.placeholder)
    config = dict(contents.config)
    if files.image_token_id is not None and kind != "trtllm-legacy":  # its reader knows no such key
        config["image_token_id"] = files.image_token_id
    with CheckpointDirectory(destination, overwrite=overwrite) as directory:
        directory.require_space(needed_bytes(contents.tensors) + _SMALL_FILES_BYTES)
        write_tensors(directory.path, contents.tensors, single_file=contents.single_file, progress=progress)
        for name, value in {"config.json": config, **contents.json_files}.items():
            directory.write_json(name, value)
        write_text_files(files, bundle.manifest.facts, directory)
        for reader in chosen.readers if contents.readers is None else contents.readers:
            check_readable(directory.path, reader)
        return directory.commit(_record(bundle, kind), progress)


def _record(bundle: Bundle, kind: str) -> dict[str, object]:
    """What it was made of, for `--overwrite` and for whoever asks later."""
    return {
        "format": kind,
        "model": bundle.manifest.model.name,
        "precision": bundle.manifest.precision.name,
        "manifest_sha256": hash_file(bundle.path / MANIFEST_NAME),
    }
