"""`phiedge devices`: what a bundle can be made for, where each figure comes from, and what this machine is."""

import shutil
import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from phiedge.cli.console import emit_json, show_table
from phiedge.cli.options import JsonOption, SysrootOption
from phiedge.cli.probe_table import measure_processor, show_probe
from phiedge.cli.verbs import verb_app
from phiedge.devices import Device, Figure, Source, aliases, catalogue, describe, find
from phiedge.devices.probe import probe

app = verb_app("List and show the devices that a bundle can be made for, and say which one this is.")

# What every device of today computes with; the list then names only what a device adds to it.
BASE = ("fp16", "int8", "int4")

UNVERIFIED = "?"
_LEGEND = f"{UNVERIFIED} not verified: recalled or estimated, not read at a source"

# Field of a device -> how it is called on the screen, its unit there, and the divisor from the field's own unit.
SHOWN = {
    "sm": ("SM", "", 1),
    "memory_bytes": ("memory", "GiB", 2**30),
    "visible_bytes": ("memory left by the system", "GiB", 2**30),
    "bandwidth_gbps": ("memory bandwidth", "GB/s", 1),
    "dense_fp16_tflops": ("dense FP16", "TFLOPS", 1),
    "dense_int8_tops": ("dense INT8", "TOPS", 1),
    "dense_fp8_tflops": ("dense FP8", "TFLOPS", 1),
    "dense_nvfp4_tflops": ("dense NVFP4", "TFLOPS", 1),
    "precisions": ("precisions", "", 1),
    "power_modes": ("power modes", "", 1),
}


@app.command(name="list")
def list_devices(as_json: JsonOption = False) -> None:
    """List every device with its main figures.

    They are those that decide how fast a model can be on it; rates are dense, without structured sparsity. A name or an
    alias is what goes after `--target`.
    """
    if as_json:
        emit_json({"devices": [describe(device) for device in catalogue()], "aliases": aliases()})
        return
    columns = ("device", "SM", "GiB", "GB/s", "FP16", "INT8", "FP8", "FP4", "precisions")
    show_table(None, columns, [_row(device) for device in catalogue()], right="SM GiB GB/s FP16 INT8 FP8 FP4")
    print()
    _say("FP16, INT8, FP8 and FP4 are dense rates in TFLOPS or TOPS. base = " + ", ".join(BASE) + ".")
    _say(f"{_LEGEND}; `phiedge devices show NAME` names every source.")
    _say("aliases: " + ", ".join(f"{alias}={name}" for alias, name in aliases().items() if "-" not in alias))


@app.command(name="show")
def show_device(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A device or an alias, as `phiedge devices list` prints them.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Show one device, and who says so.

    Every figure that is known, where it was read and whether it was verified, and the software that the device runs.
    """
    device = find(name)
    short_names = [alias for alias, target in aliases().items() if target == device.name]
    if as_json:
        emit_json({**describe(device), "aliases": short_names})
        return
    print(f"{device.title}  ({', '.join([device.name, *short_names])})")
    print(f"{device.kind}, {device.memory_kind} memory")
    sources = _sources(device)
    print()
    show_table(None, ("figure", "value", "source", "note"), _figure_rows(device, sources))
    _print_software(device, sources)
    if device.notes:
        print()
    for note in device.notes:
        _say(note)
    print()
    if any(not figure.verified for figure in device.figures().values()):
        _say(_LEGEND)
    for source, number in sources.items():
        print(f"[{number}] {source.title}" + (f"\n    {source.url}" if source.url else ""))


@app.command(name="probe")
def probe_device(
    sysroot: SysrootOption = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Also measure how fast this machine reads and multiplies.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine is.

    Jetson, cards, processor and memory, as far as the system tells; which device of the catalogue that is, if
    everything agrees; and how fast its processor reads memory and multiplies. Nothing needs more rights than yours;
    what they would add is said to be unknown.

    \b
    Examples:
      phiedge devices probe
      phiedge devices probe --no-measure --json
      phiedge devices probe --sysroot recorded-tree
    """
    found = probe(sysroot)
    rates = measure_processor() if measure and sysroot is None else None
    if as_json:
        emit_json({**found.as_dict(), "problems": found.problems, "measured": rates and asdict(rates)})
    else:
        show_probe(found, rates)


def _row(device: Device) -> tuple[str, ...]:
    rates = (device.dense_fp16_tflops, device.dense_int8_tops, device.dense_fp8_tflops, device.dense_nvfp4_tflops)
    return (
        device.name,
        _marked(device.sm),
        _marked(device.memory_bytes, divisor=2**30),
        _marked(device.bandwidth_gbps),
        *(_marked(rate) for rate in rates),
        _precisions(device),
    )


def _marked(figure: Figure[str] | Figure[int] | Figure[float] | None, *, divisor: int = 1) -> str:
    if figure is None:
        return "-"
    value = figure.value
    shown = value if isinstance(value, str) else f"{value / divisor:g}"
    return shown if figure.verified else shown + UNVERIFIED


def _precisions(device: Device) -> str:
    listed = device.precisions.value
    if not set(BASE) <= set(listed):
        return " ".join(listed)
    return " ".join(["base", *(precision for precision in listed if precision not in BASE)])


def _sources(device: Device) -> dict[Source, int]:
    """The sources of a device, numbered in the order in which the page names them."""
    figures = device.figures()
    named = [figures[field].source for field in SHOWN if field in figures] + [stack.source for stack in device.stacks]
    return {source: number for number, source in enumerate(dict.fromkeys(named), start=1)}


def _figure_rows(device: Device, sources: dict[Source, int]) -> list[tuple[str, str, str, str]]:
    figures = device.figures()
    rows = []
    for field, (label, unit, divisor) in SHOWN.items():
        figure = figures.get(field)
        if figure is not None:
            value = f"{_words(figure.value, divisor)} {unit}".rstrip() + ("" if figure.verified else f" {UNVERIFIED}")
            rows.append((label, value, f"[{sources[figure.source]}]", figure.note))
    return rows


def _words(value: object, divisor: int) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value / divisor:.4g}" if isinstance(value, (int, float)) else str(value)


def _print_software(device: Device, sources: dict[Source, int]) -> None:
    if not device.stacks:
        return
    rows = []
    for stack in device.stacks:
        mark = "" if stack.verified else f" {UNVERIFIED}"
        versions = (stack.system, stack.cuda or "-", stack.tensorrt or "-", stack.python)
        rows.append((stack.title + mark, *versions, f"[{sources[stack.source]}]"))
    print()
    show_table(None, ("software", "system", "CUDA", "TensorRT", "Python", "source"), rows)
    for stack in device.stacks:
        if stack.note:
            _say(f"{stack.title}: {stack.note}")


def _say(text: str) -> None:
    print(textwrap.fill(text, width=shutil.get_terminal_size().columns, break_long_words=False, break_on_hyphens=False))
