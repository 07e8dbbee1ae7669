"""How much of its limit an engine reaches on a device: an interval, with the measurements that it rests on.

Measurements are looked for nearest first: those of the same device, then of devices that are alike, then of other
engines there. The planned share is their median. The interval is their range, widened by `SPREAD`, because one engine
on one module differs by that much between two of its own releases (vLLM with Qwen3-8B on AGX Orin: 26.5 and 30 tokens
per second), and because sources seldom state the power mode and the type of the head; by twice as much where there is
one measurement alone.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from phiedge.devices.planning.published import Machine, Row, rows

SPREAD = 0.15
# phiedge's engines for GPUs are compiled ahead for the device, like those of this family.
PLANNED_FAMILY = "compiled"
_BANDWIDTH_CLASSES = (600.0, 1200.0)  # GB/s between which discrete cards reach similar shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """The share of the limit: planned, at least and at most; `evidence` says whose measurements these are."""

    planned: float
    least: float
    most: float
    evidence: str
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        assert 0 < self.least <= self.planned <= self.most <= 1


def decode_efficiency(machine: Machine, family: str = PLANNED_FAMILY, known: Sequence[Row] | None = None) -> Efficiency:
    """Of the bandwidth of memory, one token at a time."""
    given = [row for row in (rows() if known is None else known) if row.kind == "decode"]
    own = [row for row in given if row.family == family]
    return _first(
        (f"{family} engines on {machine.name}", _on(own, machine)),
        (f"{family} engines on SM {machine.sm}", _of_sm(own, machine) if machine.unified else []),
        (f"{family} engines on {_class_name(machine)}", _alike(own, machine)),
        (f"all engines on {_class_name(machine)}", _alike(given, machine)),
        ("all engines", given),
    )


def arithmetic_efficiency(
    machine: Machine, arithmetic: str, family: str = PLANNED_FAMILY, known: Sequence[Row] | None = None
) -> Efficiency:
    """Of the dense rate of `arithmetic`, when prompts and pictures are computed."""
    given = [row for row in (rows() if known is None else known) if row.kind == "prefill"]
    same = [row for row in given if row.arithmetic == arithmetic]
    own = [row for row in same if row.family == family]
    memory = "devices with unified memory" if machine.unified else "cards"
    fp16 = [row for row in given if row.arithmetic == "fp16"]
    unknown = f"as nothing is known of {arithmetic} there"
    return _first(
        (f"{family} engines in {arithmetic} on {machine.name}", _on(own, machine)),
        (f"{family} engines in {arithmetic} on SM {machine.sm}", _of_sm(own, machine)),
        (f"{family} engines in {arithmetic} on {memory}", _with_memory(own, machine)),
        (f"all engines in {arithmetic} on {memory}", _with_memory(same, machine)),
        (f"all engines in {arithmetic} elsewhere, {unknown}", same),
        (f"all engines in fp16 on SM {machine.sm}, {unknown}", _of_sm(fp16, machine)),
        (f"all engines in fp16, {unknown}", fp16),
        ("all engines", given),
    )


def of_rows(evidence: str, found: Sequence[Row]) -> Efficiency:
    """The efficiency that measurements show."""
    return of_shares(evidence, [row.share for row in found], tuple(found))


def of_shares(evidence: str, shares: Sequence[float], found: tuple[Row, ...] = ()) -> Efficiency:
    """Median, and widened range; never above the limit."""
    spread = SPREAD if len(shares) > 1 else 2 * SPREAD
    return Efficiency(
        planned=statistics.median(shares),
        least=min(shares) * (1 - spread),
        most=min(1.0, max(shares) * (1 + spread)),
        evidence=evidence,
        rows=found,
    )


def explained(row: Row) -> tuple[Efficiency, bool]:
    """What all other rows would have planned for this one, and whether it lies within the error stated there."""
    others = [other for other in rows() if other is not row]
    if row.kind == "decode":
        found = decode_efficiency(row.machine, row.family, others)
    else:
        found = arithmetic_efficiency(row.machine, row.arithmetic, row.family, others)
    return found, found.least <= row.share <= found.most


def _first(*choices: tuple[str, Sequence[Row]]) -> Efficiency:
    """The first choice that has a row."""
    return next(of_rows(evidence, found) for evidence, found in choices if found)


def _on(given: Sequence[Row], machine: Machine) -> list[Row]:
    return [row for row in given if row.machine.name == machine.name]


def _of_sm(given: Sequence[Row], machine: Machine) -> list[Row]:
    return [row for row in given if row.machine.sm == machine.sm]


def _with_memory(given: Sequence[Row], machine: Machine) -> list[Row]:
    return [row for row in given if row.machine.unified == machine.unified]


def _alike(given: Sequence[Row], machine: Machine) -> list[Row]:
    return [row for row in given if _class(row.machine) == _class(machine)]


def _class(machine: Machine) -> int:
    """0 for unified memory; cards by their bandwidth from 1."""
    return 0 if machine.unified else 1 + sum(machine.gbps > bound for bound in _BANDWIDTH_CLASSES)


def _class_name(machine: Machine) -> str:
    slow, fast = _BANDWIDTH_CLASSES
    names = (
        "devices with unified memory",
        f"cards up to {slow:g} GB/s",
        f"cards of {slow:g} to {fast:g} GB/s",
        f"cards above {fast:g} GB/s",
    )
    return names[_class(machine)]
