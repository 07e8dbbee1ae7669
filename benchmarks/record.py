"""How the figures of a benchmark are summarised, printed and kept."""

import argparse
import datetime
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import machine

RESULTS = Path(__file__).with_name("results")


def summary(samples: Sequence[float], digits: int = 3) -> dict[str, float | int]:
    """Median, spread and count of `samples`, in their own unit."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "median": round(statistics.median(ordered), digits),
        "p10": round(ordered[round(0.1 * last)], digits),
        "p90": round(ordered[round(0.9 * last)], digits),
        "count": len(ordered),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option that every benchmark has."""
    parser.add_argument("--keep", action="store_true", help="write the result to benchmarks/results, dated today")


def publish(name: str, settings: Mapping[str, object], results: Mapping[str, object], *, keep: bool) -> None:
    """Print the result as JSON; with `keep`, also write it where the tables are made from."""
    today = datetime.date.today().isoformat()
    record = {"benchmark": name, "date": today, "machine": machine.facts(), "settings": settings, "results": results}
    text = json.dumps(record, indent=1)
    print(text)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{today}-{name}.json").write_text(text + "\n", encoding="utf-8")


def latest(name: str) -> dict[str, object] | None:
    """The newest kept result of a benchmark."""
    found = sorted(path for path in RESULTS.glob("????-??-??-*.json") if path.stem[11:] == name)
    return json.loads(found[-1].read_text(encoding="utf-8")) if found else None


def kept_today(name: str, settings: Mapping[str, object]) -> dict[str, object]:
    """What was kept today of a benchmark that is measured in pieces, if its settings were the same; or nothing."""
    path = RESULTS / f"{datetime.date.today().isoformat()}-{name}.json"
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    same = record["settings"] == json.loads(json.dumps(settings))  # a tuple was written as a list
    return record["results"] if same else {}
