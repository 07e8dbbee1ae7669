"""Writes docs/reference/devices.md from the device catalogue: `python docs/devices_page.py`.

A test compares the page with what this makes, so the two cannot drift apart.
"""

from pathlib import Path

from phiedge.cli.devices import SHOWN
from phiedge.devices import Device, Figure, Source, aliases, catalogue

PAGE = Path(__file__).with_name("reference") / "devices.md"

_INTRODUCTION = """\
# Devices

What `phiedge devices` knows, generated from `phiedge/devices/catalogue.toml` by `python docs/devices_page.py`.

A figure marked `?` is not verified: it was recalled or estimated, not read at its source. Rates are dense, without
structured sparsity, in TFLOPS (INT8: TOPS); FP16 and FP8 of GeForce cards are with FP32 accumulation. Memory is in GiB,
bandwidth in GB/s. `cpu` is the machine that phiedge runs on, and has no figures until it is measured.

A name or an alias is what goes after `--target`. An unknown name is an error that says what is near it.
`phiedge devices probe` says which of them a machine is ([probe and doctor](doctor.md)), `phiedge plan` how fast they
would be ([plan](plan.md)).
"""

_ALIASES = """\
`orin` is the 64 GB module: the one Jetson Orin that holds the 15B at every precision it computes with, and the one for
which other engines publish speeds to compare with. `rtx` is the 4090: 24 GB hold the 15B at INT4 and at 8 bits, its
generation has FP8, and more measured speeds exist for it than for any other card here.
"""

_COLUMNS = ("device", "SM", "GiB", "GB/s", "FP16", "INT8", "FP8", "NVFP4", "precisions")

_SUMMARY = ("sm", "memory_bytes", "bandwidth_gbps", *(field for field in SHOWN if field.startswith("dense_")))


def page() -> str:
    """The whole page as Markdown."""
    devices = catalogue()
    parts = [_INTRODUCTION, "## All of them\n", _table(_COLUMNS, [_summary(device) for device in devices])]
    parts += [
        "## Aliases\n",
        _ALIASES,
        _table(("alias", "device"), [(f"`{short}`", f"`{name}`") for short, name in aliases().items()]),
    ]
    parts += [_section(device) for device in devices]
    return "\n".join(parts)


def _section(device: Device) -> str:
    figures = device.figures()
    rows = []
    for field, (label, unit, divisor) in SHOWN.items():
        if field in figures:
            value = f"{_words(figures[field], divisor)} {unit}".rstrip() + _mark(figures[field])
            rows.append((label, value, _link(figures[field].source), figures[field].note))
    parts = [f"## {device.title}\n", f"`{device.name}`: {device.kind}, {device.memory_kind} memory.\n"]
    parts.append(_table(("figure", "value", "source", "note"), rows))
    if device.stacks:
        stacks = [
            (
                stack.title,
                stack.system,
                stack.cuda or "",
                stack.tensorrt or "",
                stack.python,
                _link(stack.source),
                stack.note,
            )
            for stack in device.stacks
        ]
        parts.append(_table(("software", "system", "CUDA", "TensorRT", "Python", "source", "note"), stacks))
    parts += [f"{note}\n" for note in device.notes]
    return "\n".join(parts)


def _summary(device: Device) -> tuple[str, ...]:
    figures = device.figures()
    known = {field: figures[field] for field in _SUMMARY if field in figures}
    cells = [
        _words(known[field], SHOWN[field][2]) + _mark(known[field]) if field in known else "" for field in _SUMMARY
    ]
    return (f"`{device.name}`", *cells, ", ".join(device.precisions.value))


def _words(figure: Figure[object], divisor: int) -> str:
    value = figure.value
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value / divisor:.4g}" if isinstance(value, (int, float)) else str(value)


def _mark(figure: Figure[object]) -> str:
    return "" if figure.verified else " ?"


def _link(source: Source) -> str:
    return f"[{source.title}]({source.url})" if source.url else source.title


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
