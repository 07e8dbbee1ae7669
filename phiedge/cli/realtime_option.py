"""`--realtime WISHES`: what a command asks of the system for a quieter process, and how it tells what became of it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from phiedge.errors import UsageError

if TYPE_CHECKING:
    from phiedge.runtime.realtime import RealtimePolicy, Report

RealtimeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--realtime",
        metavar="WISHES",
        help="Ask the system for a quieter process, as in cpus=2-3,fifo=10,lock,warm=640x480,freeze,check.",
        show_default=False,
    ),
]

_KNOWN = "cpus=LIST, fifo=PRIORITY, lock, warm, warm=WIDTHxHEIGHT, freeze, check"


def read_wishes(text: str | None) -> "RealtimePolicy | None":
    """The policy that is written as wishes between commas. Raises `UsageError`."""
    from phiedge.runtime.realtime import RealtimePolicy

    if text is None:
        return None
    found: dict[str, Any] = {}
    for wish in text.split(","):
        name, _, value = wish.strip().partition("=")
        try:
            _read_wish(name, value, found)
        except (ValueError, KeyError):
            raise UsageError(f"--realtime does not know {wish.strip()!r}", remedy=f"give some of {_KNOWN}") from None
    return RealtimePolicy(**found)


def _read_wish(name: str, value: str, found: dict[str, Any]) -> None:
    if name == "cpus":
        found["cpus"] = (*found.get("cpus", ()), *_numbers(value))
    elif name == "fifo":
        found["fifo_priority"] = int(value)
    elif name == "warm":
        size = tuple(map(int, value.split("x"))) if value else None
        found["warm_up"] = (*found.get("warm_up", ()), *((size,) if size else ()))
    else:
        flag = {"lock": "lock_memory", "freeze": "freeze_garbage", "check": "check_allocation"}[name]
        if value:
            raise ValueError(value)
        found[flag] = True


def _numbers(text: str) -> range:
    """Of "2" or "2-3"."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def tell_wishes(reports: "Sequence[Report]") -> None:
    """Say on stderr what became of every wish."""
    for report in reports:
        print(f"realtime {report.wish}: {report.status}, {report.detail}", file=sys.stderr)


def listed_wishes(reports: "Sequence[Report]") -> list[dict[str, str]]:
    """The same for JSON."""
    return [{"wish": report.wish, "status": report.status, "detail": report.detail} for report in reports]
