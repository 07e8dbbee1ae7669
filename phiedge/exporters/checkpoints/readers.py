"""What other engines make of a checkpoint, where that is known to be wrong or nothing: refused here, by name.

Some readers report success on a checkpoint that they misread: they leave out tensors that they do not know, or cut
fused tensors along the wrong axis. So every checkpoint is held against the rules of its readers after it is written,
and may be held against those of another. What each rule rests on: docs/guides/ecosystem.md.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from phiedge.errors import FormatError, UsageError
from phiedge.exporters.checkpoints.tensor_index import Entry, tensor_index

EDGE_LLM, TENSORRT_LLM, TRTLLM_BUILD, VLLM = "edge-llm", "tensorrt-llm", "trtllm-build", "vllm"
ORIN_SM, FIRST_FP8_SM = 87, 89  # the units of those before 89 have no FP8, Orin's neither
# Where readers multiply FP8 under one scale a tensor, and TensorRT-LLM under one a row; docs/guides/ecosystem.md.
_TENSORRT_LLM_FP8, _TENSORRT_LLM_FP8_BY_ROW, _EDGE_LLM_FP8_FROM = (89, 90, 120), (90,), 100
_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # what TensorRT-LLM joins
_FUSED = (".qkv_proj.", ".gate_up_proj.")
_AWQ_ZEROS, _GPTQ_ZEROS = 0x88888888, (0x77777777, 0x88888888)
_UNIFIED_SCALED = (".o_proj.", ".down_proj.")

Tensors: TypeAlias = Mapping[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A checkpoint as its readers find it; `said` is its `quantization_config`, `method` the name in it."""

    directory: Path
    method: str
    said: Mapping[str, Any]
    tensors: Tensors


def check_readable(directory: Path, reader: str, *, sm: int | None = None) -> None:
    """See that `reader` would read the checkpoint in `directory` as what it is.

    `sm` is the compute capability that it shall run on (87 is Orin), where it is known. Raises `FormatError`.
    """
    if reader not in _RULES:
        raise UsageError(f"there are no rules for a reader {reader!r}", remedy=f"use one of {', '.join(_RULES)}")
    config = json.loads((directory / "config.json").read_bytes())
    said = config.get("quantization" if reader == TRTLLM_BUILD else "quantization_config") or {}
    method = "trtllm-legacy" if reader == TRTLLM_BUILD else str(said.get("quant_method", "none"))
    written = Written(directory=directory, method=method, said=said, tensors=tensor_index(directory))
    _RULES[reader](written)
    if sm is not None and _is_float8(written):
        _float8_units(written, reader, sm)


def _edge_llm(written: Written) -> None:
    """tensorrt-edgellm 0.11: each of these exports with exit code 0, or fails late."""
    if written.method == "compressed-tensors":
        raise _wrong(
            written,
            f"is compressed-tensors, of which Edge-LLM leaves out {len(written.tensors)} tensors and reports success",
            "phiedge repack --format awq",
        )
    if written.method in ("awq", "gptq"):
        _unfused(written, "which Edge-LLM cuts along the wrong axis and reports success")
        _groups_of_128(written, "Edge-LLM")
        _symmetric(written)
    if written.method == "modelopt" and written.said.get("quant_algo") == "W4A16_AWQ":
        _groups_of_128(written, "Edge-LLM")
        _two_rows_a_byte(written)
    if written.method == "modelopt" and written.said.get("quant_algo") == "FP8_PER_CHANNEL_PER_TOKEN":
        raise _wrong(
            written, "has a scale for each row, Edge-LLM reads one for a tensor", "export with --weight-scales tensor"
        )
    if _is_plain(written):
        _scalars(written)


def _tensorrt_llm(written: Written) -> None:
    """TensorRT-LLM's PyTorch backend reads int4 in ModelOpt's format only."""
    if written.method != "modelopt":
        raise _wrong(written, f"is {written.method}, TensorRT-LLM reads modelopt", "phiedge repack --format modelopt")
    _unfused(written, "of which TensorRT-LLM's Phi-3 reads the codes without their scales")
    if written.said.get("quant_algo") == "W4A16_AWQ":
        _groups_of_128(written, "TensorRT-LLM")
        _two_rows_a_byte(written)
        for name in _linears(written, ".weight", "U8"):
            if any(part in f"{name}." for part in _UNIFIED_SCALED) and f"{name}.pre_quant_scale" not in written.tensors:
                raise _wrong(written, f"has no {name}.pre_quant_scale, which TensorRT-LLM reads", "repack the bundle")
    if _is_plain(written):
        _scalars(written)
        _same_together(written)
    else:
        _scales_of_rows(written, ())


def _vllm(written: Written) -> None:
    """vLLM reads AWQ-GEMM and compressed-tensors; of ModelOpt's int4 it knows nothing."""
    if written.method == "modelopt" and written.said.get("quant_algo") == "W4A16_AWQ":
        raise _wrong(written, "is W4A16_AWQ of ModelOpt, which vLLM does not read", "phiedge repack --format awq")
    if written.method == "awq":
        _unfused(written, "which AWQ's order of outputs does not allow")
    if _is_plain(written):
        _scalars(written)
    else:
        _scales_of_rows(written, (1,) if written.method == "compressed-tensors" else ())
    for name in _linears(written, ".weight_packed", "I32"):
        rows, k = (int(side) for side in written.tensors[f"{name}.weight_shape"].read())
        groups = written.tensors[f"{name}.weight_scale"].shape
        shape = written.tensors[f"{name}.weight_packed"].shape
        size = int(written.said["config_groups"]["group_0"]["weights"]["group_size"])
        if shape != (rows, k // 8) or groups != (rows, k // size):
            raise _wrong(
                written,
                f"has {name} as {shape} with scales {groups}, for {(rows, k)} in groups of {size}",
                "repack the bundle",
            )


def _trtllm_build(written: Written) -> None:
    """`trtllm-build`: one file of a rank, every groupwise linear with its two factors, and no mixture of types."""
    tensors = written.tensors
    if not (written.directory / "rank0.safetensors").is_file():
        raise _wrong(written, "has no rank0.safetensors", "phiedge repack --format trtllm-legacy")
    linears = _linears(written, ".weight", "I8")
    for name in linears:
        rows, k = 2 * tensors[f"{name}.weight"].shape[0], tensors[f"{name}.weight"].shape[1]
        wanted = {
            "weights_scaling_factor": (rows, k // int(written.said["group_size"])),
            "prequant_scaling_factor": (k,),
        }
        for factor, shape in wanted.items():
            found = tensors.get(f"{name}.{factor}")
            if found is None or found.shape != shape:
                told = "nothing" if found is None else str(found.shape)
                raise _wrong(written, f"has {told} as {name}.{factor}, wanted is {shape}", "repack the bundle")
    kinds = {entry.dtype for entry in tensors.values()} - {"I8"}
    if linears and kinds != {"F16"}:
        raise _wrong(written, f"mixes {', '.join(sorted(kinds))} in a model of float16", "repack the bundle")


def _unfused(written: Written, why: str) -> None:
    fused = next((name for name in written.tensors if any(part in name for part in _FUSED)), None)
    if fused is not None:
        raise _wrong(written, f"has the fused tensor {fused}, {why}", "phiedge repack, which writes q, k, v apart")


def _groups_of_128(written: Written, reader: str) -> None:
    found = written.said.get("group_size")
    if found != 128:
        raise _wrong(
            written,
            f"has groups of {found} weights, {reader} reads groups of 128",
            "export for a GPU, with --target orin",
        )


def _symmetric(written: Written) -> None:
    """Zero points are all in the middle, and inputs in their own order."""
    if written.said.get("desc_act"):
        raise _wrong(
            written,
            "orders inputs by their size (desc_act), which its readers undo at a cost or not at all",
            "quantise without",
        )
    allowed = (_AWQ_ZEROS,) if written.method == "awq" else _GPTQ_ZEROS
    for name, entry in written.tensors.items():
        if name.endswith(".qzeros") and not np.isin(entry.read().view(np.uint32), allowed).all():
            raise _wrong(
                written,
                f"has zero points in {name} that are not 8: Edge-LLM folds them in and cuts what leaves 0 to 15",
                "quantise symmetrically, as phiedge does",
            )


def _two_rows_a_byte(written: Written) -> None:
    for name in _linears(written, ".weight", "U8"):
        half, k = written.tensors[f"{name}.weight"].shape
        scales = written.tensors.get(f"{name}.weight_scale")
        if scales is None or scales.shape != (2 * half, k // 128):
            told = "no scales" if scales is None else f"scales {scales.shape}"
            raise _wrong(written, f"has {told} for {name}, wanted are {(2 * half, k // 128)}", "repack the bundle")


def _scales_of_rows(written: Written, columns: tuple[int, ...]) -> None:
    """Weights in 8-bit floats have a scale for each row."""
    for name in _linears(written, ".weight", "F8_E4M3"):
        rows = written.tensors[f"{name}.weight"].shape[0]
        scales = written.tensors.get(f"{name}.weight_scale")
        if scales is None or scales.shape != (rows, *columns):
            told = "no scales" if scales is None else f"scales {scales.shape}"
            raise _wrong(written, f"has {told} for {name}, wanted are {(rows, *columns)}", "repack the bundle")


def _scalars(written: Written) -> None:
    """Weights in 8-bit floats have one scale, and their inputs one."""
    for name in _linears(written, ".weight", "F8_E4M3"):
        for scale in ("weight_scale", "input_scale"):
            found = written.tensors.get(f"{name}.{scale}")
            if found is None or (found.dtype, found.shape) != ("F32", ()):
                told = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise _wrong(written, f"has {told} as {name}.{scale}, wanted is F32 ()", "repack the bundle")


def _same_together(written: Written) -> None:
    """q, k and v, or gate and up, have the same scales: otherwise their joined weight is rounded once more."""
    for name in _linears(written, ".weight", "F8_E4M3"):
        before, _, last = name.rpartition(".")
        joined = next((parts for parts in _TOGETHER if last in parts[1:]), None)
        if joined is None:
            continue
        for scale in ("weight_scale", "input_scale"):
            first, other = f"{before}.{joined[0]}.{scale}", f"{name}.{scale}"
            found = [float(written.tensors[one].read()) for one in (first, other) if one in written.tensors]
            if len(set(found)) > 1:
                raise _wrong(
                    written,
                    f"has {found[0]:g} as {first} and {found[1]:g} as {other}, which TensorRT-LLM joins under the "
                    "largest, rounding again what had another",
                    "export with --weight-scales tensor, and repack",
                )


def _float8_units(written: Written, reader: str, sm: int) -> None:
    """The GPU multiplies FP8, and the reader has kernels for its scales there."""
    if sm < FIRST_FP8_SM:
        told = f"Orin (SM {sm})" if sm == ORIN_SM else f"SM {sm}"
        raise _wrong(written, f"is FP8, which {told} does not multiply", "export with --precision int4")
    if reader == EDGE_LLM and sm < _EDGE_LLM_FP8_FROM:
        raise _wrong(
            written,
            f"is FP8, which Edge-LLM multiplies from SM {_EDGE_LLM_FP8_FROM} on, this is SM {sm}",
            "phiedge repack --format awq of a bundle in int4",
        )
    if reader == TENSORRT_LLM:
        plain = _is_plain(written)
        has = _TENSORRT_LLM_FP8 if plain else _TENSORRT_LLM_FP8_BY_ROW
        if sm not in has:
            each = "tensor" if plain else "row"
            raise _wrong(
                written,
                f"has a scale for each {each}, TensorRT-LLM has kernels of that for SM {', '.join(map(str, has))}, "
                f"this is SM {sm}",
                "phiedge build --backend tensorrt-rtx" if plain else "export with --weight-scales tensor",
            )


def _is_plain(written: Written) -> bool:
    return written.method == "modelopt" and written.said.get("quant_algo") == "FP8"


def _linears(written: Written, suffix: str, dtype: str) -> list[str]:
    """The linears whose codes are the tensor with this suffix and type."""
    found = (name for name, entry in written.tensors.items() if name.endswith(suffix) and entry.dtype == dtype)
    return [name.removesuffix(suffix) for name in found]


def _is_float8(written: Written) -> bool:
    return any(entry.dtype == "F8_E4M3" for entry in written.tensors.values())


def _wrong(written: Written, what: str, remedy: str) -> FormatError:
    return FormatError(f"the checkpoint {written.directory} {what}", remedy=remedy)


_RULES: dict[str, Callable[[Written], None]] = {
    EDGE_LLM: _edge_llm,
    TENSORRT_LLM: _tensorrt_llm,
    VLLM: _vllm,
    TRTLLM_BUILD: _trtllm_build,
}
