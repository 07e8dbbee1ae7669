"""What a device is: figures that name their source, in frozen records that check themselves.

A `Figure` is `verified` when its value was read in the source named, or follows from a number read there by the
arithmetic in its note. An unverified one comes from memory, from a page that could not be read again, or is an
estimate: good enough to plan with, marked wherever it is shown, and never printed as a fact.

Dense rates are without structured sparsity (half of most marketing numbers). FP16 and FP8 of GeForce cards are the
rates with FP32 accumulation, which are half of their rates with FP16 accumulation.
"""

import re
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from phiedge.errors import DeviceError

KINDS = ("jetson", "rtx", "cpu")
MEMORY_KINDS = ("unified", "discrete")
PRECISIONS = ("fp16", "int8", "int4", "fp8", "nvfp4")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where figures were read; `url` is None where there is no page to open: a recollection, or our own measurement."""

    name: str
    title: str
    url: str | None

    def __post_init__(self) -> None:
        if not self.title:
            raise DeviceError(f"source {self.name!r} has no title", remedy="say in catalogue.toml what it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Generic[T]):
    """One value, where it comes from, and whether it was read there; its field's name carries the unit."""

    value: T
    source: Source
    verified: bool
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.value, (int, float)) and self.value <= 0:
            raise DeviceError(f"a figure is {self.value}, not above 0", remedy="leave out what is not known")
        if isinstance(self.value, (str, tuple)) and not self.value:
            raise DeviceError("a figure is empty", remedy="leave out what is not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One software generation that a device runs: the versions that come together there."""

    name: str
    title: str
    system: str
    cuda: str | None
    tensorrt: str | None
    python: str
    source: Source
    verified: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A target of export. `kind` says which software family serves it: JetPack, desktop drivers, or no GPU at all.

    A figure is None where it is not known, and all but `precisions` are None for the CPU, which is whatever machine
    phiedge stands on. `visible_bytes` is what the operating system has left of `memory_bytes` after carve-outs.
    """

    name: str
    title: str
    kind: str
    memory_kind: str
    precisions: Figure[tuple[str, ...]]
    sm: Figure[str] | None = None
    memory_bytes: Figure[int] | None = None
    visible_bytes: Figure[int] | None = None
    bandwidth_gbps: Figure[float] | None = None
    dense_fp16_tflops: Figure[float] | None = None
    dense_int8_tops: Figure[float] | None = None
    dense_fp8_tflops: Figure[float] | None = None
    dense_nvfp4_tflops: Figure[float] | None = None
    power_modes: Figure[tuple[str, ...]] | None = None
    stacks: tuple[Stack, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise DeviceError(f"device name {self.name!r} is not lower-case words joined by '-'")
        self._check_words()
        if self.kind == "cpu":
            self._check_that_nothing_is_claimed()
        else:
            self._check_that_a_gpu_is_described()

    @property
    def sm_number(self) -> int | None:
        """The compute capability as engines are named by it: 87 for 8.7, 120 for 12.0; None without a GPU."""
        return None if self.sm is None else int(self.sm.value.replace(".", ""))

    def supports(self, precision: str) -> bool:
        """Whether the device computes with, or reads weights stored as, `precision`."""
        return precision in self.precisions.value

    def figures(self) -> dict[str, Figure[object]]:
        """The figures that are known, by field name, in the order of declaration."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, Figure)}

    def _check_words(self) -> None:
        if self.kind not in KINDS or self.memory_kind not in MEMORY_KINDS:
            raise DeviceError(
                f"{self.name}: kind {self.kind!r} or memory kind {self.memory_kind!r} is not known",
                remedy=f"kinds are {', '.join(KINDS)}; memory kinds are {', '.join(MEMORY_KINDS)}",
            )
        unknown = [word for word in self.precisions.value if word not in PRECISIONS]
        if unknown:
            raise DeviceError(f"{self.name}: precision {unknown[0]!r} is not one of {', '.join(PRECISIONS)}")

    def _check_that_nothing_is_claimed(self) -> None:
        claimed = sorted(set(self.figures()) - {"precisions"})
        if claimed:
            raise DeviceError(f"{self.name}: {claimed[0]} is given, but the CPU is whatever machine runs phiedge")

    def _check_that_a_gpu_is_described(self) -> None:
        known = self.figures()
        for name in ("sm", "memory_bytes", "bandwidth_gbps"):
            if name not in known:
                raise DeviceError(f"{self.name}: {name} is missing", remedy="every GPU has it in catalogue.toml")
        if self.sm is not None and not re.fullmatch(r"\d{1,2}\.\d", self.sm.value):
            raise DeviceError(f"{self.name}: sm {self.sm.value!r} is not like '8.7'")
        for precision, rate in (("fp8", self.dense_fp8_tflops), ("nvfp4", self.dense_nvfp4_tflops)):
            if rate is not None and not self.supports(precision):
                raise DeviceError(f"{self.name}: has a rate for {precision}, which its precisions do not list")


def describe(device: Device) -> dict[str, object]:
    """The device as JSON-ready values: every figure with its source, unknown ones as null."""
    described: dict[str, object] = {}
    for field in fields(device):
        value = getattr(device, field.name)
        if isinstance(value, Figure):
            value = _figure_as_json(value)
        elif field.name == "stacks":
            value = [_stack_as_json(stack) for stack in device.stacks]
        described[field.name] = list(value) if isinstance(value, tuple) else value
    return described


def _figure_as_json(figure: Figure[object]) -> dict[str, object]:
    value = list(figure.value) if isinstance(figure.value, tuple) else figure.value
    note = {"note": figure.note} if figure.note else {}
    return {"value": value, "verified": figure.verified, **_source_as_json(figure.source), **note}


def _stack_as_json(stack: Stack) -> dict[str, object]:
    plain = {field.name: getattr(stack, field.name) for field in fields(stack) if field.name != "source"}
    return {**plain, **_source_as_json(stack.source)}


def _source_as_json(source: Source) -> dict[str, object]:
    return {"source": source.title, "url": source.url}
