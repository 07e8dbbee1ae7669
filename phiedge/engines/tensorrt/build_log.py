"""The detailed log of TensorRT-RTX's builder, read as data: kernels with their operands, and what memory they take.

An engine file cannot be looked into without a GPU, and its format is nobody's business. But the builder says what it
made when it is asked to (`ProfilingVerbosity.DETAILED`, severity VERBOSE), and that is where it shows whether attention
became one kernel that has its mask, and whether caches are written in place. The text is no stable interface: this
reads what 1.7.1 writes, and refuses a log in which it does not find it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from phiedge.bundle.record import decode, encode
from phiedge.errors import BundleError

# TensorRT 10.10 was seen to write kernels without their constants, and operands with the place where they are.
_KERNEL = re.compile(
    r"Name: (?P<name>.+?), LayerType: \w+, Inputs: \[(?P<inputs>.*?)\](?:, Constants: \[.*?\])?, Outputs: \["
)
_OPERAND = re.compile(
    r"\{ Name: (?P<name>.+?)(?: \[profile \d+\])?(?:, Location: \w+)?, Dimensions: \[(?P<shape>[\d,]*)\]"
)
_PROFILE = re.compile(r"_myl(\d+)_\d+( \[profile \d+\])?$")
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")
_AGAIN = "build the engine again: phiedge build"
_REMEDY = "build with a TensorRT-RTX that phiedge was tested with, which is 1.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A tensor that a kernel reads or writes."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel of an engine, with what it reads and writes beside constants."""

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]

    @property
    def is_attention(self) -> bool:
        """Whether it is one of TensorRT's fused attentions."""
        return "_mha_v" in self.name

    @property
    def has_int4_product(self) -> bool:
        """Whether weights are dequantised inside this kernel, on their way into a product."""
        return "ReplCastMulCast" in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileLog:
    """The kernels of one profile, in order, and the bytes that they need beside weights and caches."""

    kernels: tuple[Kernel, ...]
    activation_bytes: int

    @property
    def attentions(self) -> list[Kernel]:
        """The kernels that attend."""
        return [kernel for kernel in self.kernels if kernel.is_attention]

    @property
    def int4_products(self) -> int:
        """How many kernels dequantise weights on their way into a product."""
        return sum(kernel.has_int4_product for kernel in self.kernels)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLog:
    """An engine, by profile; weights are shared by all of them."""

    profiles: tuple[ProfileLog, ...]
    weights_bytes: int

    def to_json(self) -> str:
        """The text that lies beside an engine; the same engine gives the same."""
        return json.dumps(encode(self), separators=(",", ":")) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> "BuildLog":
        """Read what `to_json` wrote. Raises `BundleError` for anything else."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"what was told of the engine's layers is not JSON: {error}", remedy=_AGAIN) from error
        try:
            return decode(BuildLog, value, "what was told of the engine's layers")
        except BundleError as error:
            raise BundleError(error.message, remedy=_AGAIN) from error


def tells_of_layers(line: str) -> bool:
    """Whether `read_log` would look at this line; a build says a hundred times as many others."""
    return bool(_KERNEL.match(line) or _ACTIVATIONS.search(line) or _WEIGHTS.search(line))


def read_log(lines: Iterable[str]) -> BuildLog:
    """Read what the builder logged for one engine. Raises `BundleError` where the log does not say it."""
    kernels: dict[int, list[Kernel]] = {}
    activations: list[int] = []
    weights_bytes = None
    for line in lines:
        if found := _KERNEL.match(line):
            profile = _PROFILE.search(found["name"])
            kernels.setdefault(int(profile[1]) if profile else 0, []).append(_kernel(found, line))
        elif found := _ACTIVATIONS.search(line):
            activations.append(int(found[1]))
        elif found := _WEIGHTS.search(line):
            weights_bytes = int(found[1])
    if weights_bytes is None or not kernels or sorted(kernels) != list(range(len(activations))):
        raise BundleError(
            f"the builder's log tells of {len(activations)} profiles, and has kernels of {len(kernels)}", remedy=_REMEDY
        )
    profiles = (
        ProfileLog(kernels=tuple(kernels[index]), activation_bytes=activation_bytes)
        for index, activation_bytes in enumerate(activations)
    )
    return BuildLog(profiles=tuple(profiles), weights_bytes=weights_bytes)


def check_decoder_log(log: BuildLog, *, layers: int, capacity: int) -> None:
    """Refuse a decoder in which an attention lacks its mask, or a cache is not written in place.

    Raises `BundleError` naming the profile and the kernel or the cache.
    """
    for index, profile in enumerate(log.profiles):
        if len(profile.attentions) != layers:
            raise _wrong(
                index, f"has {len(profile.attentions)} fused attentions, wanted is one for each of {layers} layers"
            )
        for kernel in profile.attentions:
            if not any(_is_mask(operand, capacity) for operand in kernel.inputs):
                raise _wrong(index, f"attends without a mask over {capacity} cache rows in {kernel.name}")
        for cache in (f"present.{layer}.{part}" for layer in range(layers) for part in ("key", "value")):
            if not any(_writes_in_place(kernel, cache) for kernel in profile.kernels):
                raise _wrong(index, f"does not write {cache} in place")


def _is_mask(operand: Operand, capacity: int) -> bool:
    return len(operand.shape) == 4 and operand.shape[:2] == (1, 1) and operand.shape[3] == capacity


def _writes_in_place(kernel: Kernel, cache: str) -> bool:
    return all(cache in {operand.name for operand in operands} for operands in (kernel.inputs, kernel.outputs))


def _kernel(found: re.Match[str], line: str) -> Kernel:
    outputs = line[found.end() :].partition("], TacticName")[0]
    return Kernel(name=found["name"], inputs=_operands(found["inputs"]), outputs=_operands(outputs))


def _operands(text: str) -> tuple[Operand, ...]:
    return tuple(
        Operand(name=found["name"], shape=tuple(int(side) for side in found["shape"].split(",") if side))
        for found in _OPERAND.finditer(text)
    )


def _wrong(profile: int, told: str) -> BundleError:
    return BundleError(f"profile {profile} of the decoder engine {told}", remedy=_REMEDY)
