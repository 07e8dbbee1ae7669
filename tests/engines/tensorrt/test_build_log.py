"""On lines in the form in which TensorRT-RTX 1.7.1 logs an engine, here one of a layer with two profiles."""

from collections.abc import Sequence

import pytest

from phiedge.engines.tensorrt.build_log import BuildLog, check_decoder_log, read_log
from phiedge.errors import BundleError

CAPACITY = 64
PRESENT = (("present.0.key", "1,2,64,16"), ("present.0.value", "1,2,64,16"))


def kernel(name: str, inputs: Sequence[tuple[str, str]], outputs: Sequence[tuple[str, str]], suffix: str = "") -> str:
    described = [
        ", ".join(
            f"{{ Name: {tensor}{suffix}, Dimensions: [{shape}], Strides: [1], StrideOrder: [0], Datatype: Half, "
            "Format: (Linear) Row major linear format }"
            for tensor, shape in tensors
        )
        for tensors in (inputs, (("weights_dconst", "1,1,1,64"),), outputs)
    ]
    parts = [f"{label}: [ {text}]" for label, text in zip(("Inputs", "Constants", "Outputs"), described, strict=True)]
    return f"Name: {name}, LayerType: kgen, {', '.join(parts)}, TacticName: t, StreamId: 0, Metadata: [ONNX Layer: /x]"


def profile(index: int, *, mask: str = "1,1,1,64", writes: Sequence[tuple[str, str]] = PRESENT) -> list[str]:
    suffix = f" [profile {index}]" if index else ""
    attention = "_gemv_mha_v1" if index == 0 else "_gemm_mha_v2"
    operands = (*PRESENT, ("query", "1,8,1,16"), ("made", mask))
    return [
        kernel(f"__myl_ReplCastMulCastFc_myl{index}_0", [("inputs_embeds", "1,1,128")], [("qkv", "1,1,192")], suffix),
        kernel(
            f"__myl_SlicScatScat_myl{index}_1", [("qkv", "1,1,192"), *PRESENT], [("query", "1,8,1,16"), *writes], suffix
        ),
        kernel(f"{attention}_myl{index}_2", operands, [("attended", "8,1,16")], suffix),
    ]


def logged(*kernels: Sequence[str], activations: Sequence[int] = (4096, 8192)) -> BuildLog:
    lines = ["Constructing optimization profile number 0 [1/2]."]
    lines += [f"Total Activation Memory: {activation} bytes" for activation in activations]
    lines += [
        "Total Weights Memory: 1505928 bytes",
        "Layers:",
        *(line for lines in kernels for line in lines),
        "Bindings:",
    ]
    return read_log(lines)


def test_kernels_operands_and_memory_are_read_by_profile() -> None:
    log = logged(profile(0), profile(1))
    assert log.weights_bytes == 1505928
    assert [part.activation_bytes for part in log.profiles] == [4096, 8192]
    assert [len(part.kernels) for part in log.profiles] == [3, 3]
    product, scatter, attention = log.profiles[1].kernels
    assert product.has_int4_product
    assert [operand.name for operand in scatter.outputs] == ["query", "present.0.key", "present.0.value"]
    assert log.profiles[1].attentions == [attention]
    assert attention.inputs[-1].shape == (1, 1, 1, CAPACITY)
    check_decoder_log(log, layers=1, capacity=CAPACITY)


@pytest.mark.parametrize(
    ("second", "layers", "message"),
    [
        (profile(1, mask="1,1,1,1"), 1, r"profile 1 .* without a mask over 64 cache rows in _gemm_mha_v2_myl1_2"),
        (profile(1, mask="2,1,1,64"), 1, r"profile 1 .* without a mask over 64 cache rows"),
        (profile(1, writes=PRESENT[:1]), 1, r"profile 1 .* does not write present.0.value in place"),
        (profile(1), 2, r"profile 0 .* has 1 fused attentions, wanted is one for each of 2 layers"),
        (profile(1)[:2], 1, r"profile 1 .* has 0 fused attentions"),
    ],
)
def test_a_decoder_that_is_not_as_it_must_be_is_refused(second: list[str], layers: int, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_decoder_log(logged(profile(0), second), layers=layers, capacity=CAPACITY)


def test_a_log_without_what_is_looked_for_is_refused() -> None:
    with pytest.raises(BundleError, match="tells of 2 profiles, and has kernels of 1"):
        logged(profile(0))
    with pytest.raises(BundleError, match="tells of 0 profiles, and has kernels of 0"):
        read_log(["Layers:", "Name: something else"])


def test_kernels_are_read_as_older_tensorrts_write_them() -> None:
    """As 10.10 does: constants among the inputs, places beside some names."""
    told = read_log(
        [
            "Total Activation Memory: 512 bytes",
            "Total Weights Memory: 1024 bytes",
            "Name: Reformat, LayerType: Reformat, Inputs: [ { Name: x, Location: Device, Dimensions: [1,3], "
            "Format/Datatype: Half }], Outputs: [ { Name: y, Location: Device, Dimensions: [3], "
            "Format/Datatype: Half }], TacticValue: 0x0, StreamId: 0, Metadata: ",
            "Name: __myl_MulSum_myl0_0, LayerType: kgen, Inputs: [ { Name: __mye116_dconst, Dimensions: [3,5], "
            "Format/Datatype: Half }, { Name: y, Dimensions: [3], Format/Datatype: Half }], Outputs: [ { Name: z, "
            "Dimensions: [5], Format/Datatype: Half }], TacticName: __myl_MulSum, StreamId: 0, Metadata: ",
        ]
    )
    first, second = told.profiles[0].kernels
    assert [(operand.name, operand.shape) for operand in (*first.inputs, *first.outputs)] == [
        ("x", (1, 3)),
        ("y", (3,)),
    ]
    assert [operand.name for operand in (*second.inputs, *second.outputs)] == ["__mye116_dconst", "y", "z"]
