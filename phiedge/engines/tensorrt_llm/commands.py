"""What TensorRT-LLM takes for a device, and the command that its machine runs."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from phiedge.engines.tensorrt_llm.build_tool import BuildRequest, build_words
from phiedge.engines.tensorrt_llm.installation import BUILD_TOOL, Way
from phiedge.errors import DeviceError

Kind: TypeAlias = Literal["modelopt", "trtllm-legacy"]
JETSON_SM = 87
# Its documentation's rows of W4A16_AWQ: Ampere, Ada, Hopper. Blackwell has FP8 and NVFP4 there.
INT4_SM = (80, 86, 87, 89, 90)
FLOAT8_SM = (89, 90, 120)  # its rows of FP8: Ada, Hopper, Blackwell
FLOAT8_BY_ROW_SM = (90,)  # and of FP8 by channel and token
KINDS: dict[Way, Kind] = {"load": "modelopt", "engine": "trtllm-legacy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The command for a machine that has TensorRT-LLM, and which version it needs."""

    command: str
    needs: str


def check_device(sm: int | None, decoder: str, *, tensor_scales: bool = False) -> None:
    """Refuse a device whose TensorRT-LLM has no kernels for such a decoder. Raises `DeviceError`.

    `tensor_scales`: in FP8, weights have one scale for all of their rows.
    """
    if sm is None:
        raise DeviceError(
            "TensorRT-LLM runs on GPUs, this bundle is for a processor", remedy="export with --target rtx or orin"
        )
    if decoder == "float8":
        has, each = (FLOAT8_SM, "tensor") if tensor_scales else (FLOAT8_BY_ROW_SM, "row")
        if sm not in has:
            able = not tensor_scales and sm in FLOAT8_SM
            raise DeviceError(
                f"TensorRT-LLM has kernels of FP8 with a scale for each {each} for SM {', '.join(map(str, has))}, "
                f"this is SM {sm}",
                remedy=("export with --weight-scales tensor, or " if able else "")
                + "phiedge build --backend tensorrt-rtx, or phiedge repack --format compressed-tensors for vLLM",
            )
    if decoder != "float8" and sm not in INT4_SM:
        raise DeviceError(
            f"TensorRT-LLM has no int4 kernels for SM {sm}, it has them for SM {', '.join(map(str, INT4_SM))}",
            remedy="phiedge build --backend tensorrt-rtx, or a checkpoint in FP8",
        )


def way_elsewhere(sm: int) -> Way:
    """What a device without an installation here will take: engines on Jetson Orin, otherwise the PyTorch backend."""
    return "engine" if sm == JETSON_SM else "load"


def elsewhere(way: Way, request: BuildRequest) -> Elsewhere:
    """The command to run where TensorRT-LLM is."""
    if way == "engine":
        return Elsewhere(
            command=" ".join(build_words(BUILD_TOOL, request)),
            needs="TensorRT-LLM 0.12 to 1.2; on Jetson Orin its branch v0.12.0-jetson, built from source",
        )
    words = (
        *("trtllm-serve", str(request.checkpoint), "--backend", "pytorch", "--host", "127.0.0.1", "--port", "8000"),
        *("--max_batch_size", "1", "--max_seq_len", str(request.max_context)),
    )
    return Elsewhere(command=" ".join(words), needs="TensorRT-LLM 1.3 or later")
