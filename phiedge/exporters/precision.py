"""What each part of the model is stored and computed as, by the name of a precision.

| name | target     | vision, projector                | decoder linears | lm_head     | activations, caches |
|------|------------|----------------------------------|-----------------|-------------|---------------------|
| fp32 | any        | float32                          | float32         | float32     | float32             |
| fp16 | any        | float16                          | float16         | float16     | float16             |
| int4 | CPU        | stored float16, computed float32 | int4 groups     | int8 groups | float32             |
| int4 | Jetson     | stored float16, computed float32 | int4 groups     | int4 groups | float32             |
| int4 | other GPUs | float16                          | int4 groups     | int4 groups | float16             |
| fp8  | GPUs with  | stored float16, computed float32 | float8 (E4M3),  | float16     | float32, inputs of  |
|      | FP8 units  |                                  | a scale a row   |             | linears float8      |

That is what the `ort` dialect computes in. TensorRT computes everything that is not float32 in float16
(`for_tensorrt`), from the same stored weights: a bundle has every weight once, whatever number of dialects. So the
head of a GPU's bundle is int4, as TensorRT has no product that reads weights of 8 bits as they are stored.

The linears of vision encoder and projector may be in 8 bits instead (`vision_linears`), with every one of these: they
are a choice of their own (docs/decisions/0411-when-is-the-vision-encoder-in-8-bits.md).

Norms, the sums along the residual, and logits are float32 everywhere: what a model trained in bfloat16 puts there need
not fit float16 (docs/decisions/0405-which-types-on-a-gpu.md, which also says why Jetson is not among the other GPUs).

At fp8 ONNX Runtime rounds what TensorRT rounds, and computes the rest in float32: it is there to try a bundle and to
record its goldens, on a CPU, which has no product of 8-bit floats (docs/decisions/0410-what-is-an-fp8-bundle.md).

Groups are symmetric runs of `group_size` weights along K with one scale: 128, which GPU kernels want and which ONNX
Runtime's CPU kernels read and multiply fastest; on a CPU 64 or 32 where a model's widths are no multiples of 128
(docs/decisions/0403-what-group-size-for-which-target.md). The embedding table keeps the checkpoint's own type: it is
looked up, never multiplied.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from phiedge.bundle import Precision
from phiedge.errors import UsageError

FloatType: TypeAlias = Literal["float32", "float16"]
# How integers are stored: with an offset, from 0 up, as ONNX Runtime wants them, or in two's complement, as TensorRT.
Codes: TypeAlias = Literal["offset", "signed"]
CacheType: TypeAlias = Literal["int8"]  # of keys and values, in the `ort` dialect
VisionLinears: TypeAlias = Literal["int8", "float8"]  # what linears of the vision graph are stored and multiplied in
GROUP_SIZES = (128, 64, 32)
JETSON_SM = (87, 110)  # their engine is TensorRT; their graphs for ONNX Runtime run where the bundle is tried, on a CPU
FP8_SM = (89, 90, 100, 110, 120, 121)  # compute capabilities with FP8 matrix units; Orin is 87


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPlan:
    """One row of the table above; `group_size` is None where nothing is grouped.

    `wider` are linears of the decoder, by the checkpoint's name, that get more bits than the others: 8 where ONNX
    Runtime alone reads them, and float16 where TensorRT does, too, as that has no product with weights of 8 bits.
    `vision_linears` are those of the encoder's layers and of the projector; `vision` is what the rest of them is.
    """

    name: str
    vision: FloatType
    projector: FloatType
    decoder: Literal["float32", "float16", "float8", "int4"]
    lm_head: Literal["float32", "float16", "int8", "int4"]
    norms: FloatType
    activations: FloatType
    group_size: int | None
    codes: Codes | None
    cache: CacheType | None = None  # None: as activations
    wider: tuple[str, ...] = ()
    vision_linears: VisionLinears | None = None  # None: as vision and projector

    def __post_init__(self) -> None:
        if self.group_size is not None and self.group_size not in GROUP_SIZES:
            raise UsageError(
                f"a group of {self.group_size} weights is not supported",
                remedy=f"use one of {', '.join(map(str, GROUP_SIZES))}",
            )
        assert (self.group_size is None) == (self.decoder != "int4"), "grouped weights and group_size go together"
        assert (self.group_size is None) == (self.codes is None), "grouped weights and codes go together"
        assert self.codes != "signed" or self.lm_head == "int4", "only codes of 4 bits are stored with a sign"

    @property
    def for_cuda(self) -> bool:
        """Whether ONNX Runtime can run it on CUDA, where its attention with a cache is in 16 bits only."""
        return self.activations == "float16"

    @property
    def decoder_bits(self) -> int | None:
        """Bits of a decoder weight where they are grouped integers, otherwise None."""
        return 4 if self.decoder == "int4" else None

    @property
    def lm_head_bits(self) -> int | None:
        """Bits of an lm_head weight where they are grouped integers, otherwise None."""
        return {"int8": 8, "int4": 4}.get(self.lm_head)

    @property
    def wider_as(self) -> Literal["int8", "float16"]:
        """What the linears of `wider` are stored as."""
        return "int8" if self.codes == "offset" else "float16"

    def linear_bits(self, source: str) -> int | None:
        """Bits of a weight of the decoder's linear `source` where they are grouped integers, otherwise None."""
        if source not in self.wider:
            return self.decoder_bits
        return 8 if self.wider_as == "int8" else None

    def record(self, *, embed_tokens: str) -> Precision:
        """The manifest's entry; `embed_tokens` is the checkpoint's type of the embedding table."""
        return Precision(
            name=self.name,
            vision=self.vision_linears or self.vision,
            projector=self.vision_linears or self.projector,
            decoder=self.decoder,
            lm_head=self.lm_head,
            embed_tokens=embed_tokens,
            norms=self.norms,
            group_size=self.group_size,
            codes=self.codes,
            cache=self.cache,
            wider=dict.fromkeys(self.wider, self.wider_as),
        )


FP32 = PrecisionPlan(
    name="fp32",
    vision="float32",
    projector="float32",
    decoder="float32",
    lm_head="float32",
    norms="float32",
    activations="float32",
    group_size=None,
    codes=None,
)
FP16 = PrecisionPlan(
    name="fp16",
    vision="float16",
    projector="float16",
    decoder="float16",
    lm_head="float16",
    norms="float32",
    activations="float16",
    group_size=None,
    codes=None,
)
INT4 = PrecisionPlan(
    name="int4",
    vision="float16",
    projector="float16",
    decoder="int4",
    lm_head="int8",
    norms="float32",
    activations="float32",
    group_size=32,
    codes="offset",
)
FP8 = PrecisionPlan(
    name="fp8",
    vision="float16",
    projector="float16",
    decoder="float8",
    lm_head="float16",
    norms="float32",
    activations="float32",
    group_size=None,
    codes=None,
)
PLANS = {plan.name: plan for plan in (FP32, FP16, FP8, INT4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionChoice:
    """The plan that was asked for, and a `note` for the user where `auto` could not give the device's best."""

    plan: PrecisionPlan
    note: str | None = None


def choose_precision(
    name: str, *, sm: int | None, group_size: int | None = None, widths: Collection[int] = ()
) -> PrecisionChoice:
    """Resolve `auto`, `fp32`, `fp16`, `fp8` or `int4` for a GPU of compute capability `sm` (87 is Orin), or a CPU.

    `group_size` overrides the target's own. `widths` are the K of the decoder's linears, where they are known: on a CPU
    the group is the largest that divides them all. Raises `UsageError` for a precision that is not, or not there.
    """
    if name != "auto" and name not in PLANS:
        raise UsageError(f"unknown precision {name!r}", remedy=f"use one of auto, {', '.join(PLANS)}")
    plan = INT4 if name == "auto" else PLANS[name]
    if plan.decoder == "float8" and sm not in FP8_SM:
        told = "a CPU has" if sm is None else f"a GPU of SM {sm} has"
        raise UsageError(
            f"{told} no units for {name}: GPUs have them from SM {FP8_SM[0]} on",
            remedy="use --precision int4, or a --target that has them: `phiedge devices list` names each one's",
        )
    if plan.group_size is None:
        if group_size is not None:
            raise UsageError(f"{name} has no groups of weights", remedy="leave the group size out, or use int4")
        return PrecisionChoice(plan=plan)
    if group_size is None:
        group_size = 128 if sm is not None else _largest_group(widths)
    plan = replace(plan, group_size=group_size)
    if sm is not None:
        plan = replace(for_tensorrt(plan), activations=_int4_activations(sm))
    wants_fp8 = name == "auto" and sm in FP8_SM
    note = "using int4; this GPU has units for fp8, too: --precision fp8 --calibration builtin, in twice the memory"
    return PrecisionChoice(plan=plan, note=note if wants_fp8 else None)


def for_tensorrt(plan: PrecisionPlan) -> PrecisionPlan:
    """The plan as TensorRT's kernels want it: int4 weights beside float16 activations, in the head as everywhere.

    TensorRT has no product that reads weights of 8 bits as they are stored: it would write them out in float16 for
    every token, and read them again.
    """
    if plan.decoder == "float8":
        return replace(plan, activations="float16")
    if plan.group_size is None:
        return plan
    return replace(plan, lm_head="int4", activations="float16", codes="signed")


def _largest_group(widths: Collection[int]) -> int:
    """The largest group that every width is a multiple of, or the smallest there is, which then is refused by name."""
    return next((size for size in GROUP_SIZES if all(width % size == 0 for width in widths)), GROUP_SIZES[-1])


def _int4_activations(sm: int) -> FloatType:
    """What ONNX Runtime multiplies int4 weights with for a GPU of compute capability `sm`."""
    return "float32" if sm in JETSON_SM else "float16"
