"""How far `phiedge plan` lies from what this machine then does: tokens, prompts and pictures, model by model.

    python -m benchmarks.plan_here make reference DIRECTORY
    python -m benchmarks.plan_here measure reference DIRECTORY [--seconds 60] [--profile 60] [--keep]

and the same for 1b and 15b. `make` exports a bundle below DIRECTORY for the CPU, with random weights but for the
reference model. `measure` runs `phiedge bench` on it, and holds against its medians what `phiedge plan --target cpu`
makes of the very rates that the bench measured. With `--profile` a latency profile is measured right before, which
tells how far off it foresees whole requests that it did not see. Results of one day are kept together.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import random_checkpoint
from benchmarks.peers_side_by_side import SHAPE
from benchmarks.record import add_options, kept_today, publish
from phiedge.bundle import Bundle
from phiedge.devices.planning.speeds import processor_speeds
from phiedge.devices.planning.storage import sizes_of, storage_of
from phiedge.devices.planning.time import Request, Span, TimePlan, plan_time
from tests.support.published import PUBLISHED_CONFIG

NAMES = ("reference", "1b", "15b")
CONTEXTS = {"reference": "64,1024,4096", "1b": "64,1024,4096", "15b": "64,1024,4096"}
PROMPTS = {"reference": "256,1024", "1b": "256,1024", "15b": "256"}
PICTURES = {"reference": "256x256", "1b": "none", "15b": "256x256"}  # the vision part of 1b is that of the tests
WITHIN = 0.2


def make(name: str, directory: Path) -> Path:
    """The bundle of that name, exported if it is not there."""
    bundle = directory / name
    if bundle.is_dir():
        return bundle
    directory.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "phiedge", "export", "--target", "cpu", "-o", str(bundle)]
    if name == "1b":
        words += ["-m", str(random_checkpoint.write(directory / "1b-checkpoint", SHAPE).checkpoint)]
    if name == "15b":
        config = directory / "15b-config"
        config.mkdir(exist_ok=True)
        (config / "config.json").write_text(json.dumps(PUBLISHED_CONFIG), encoding="utf-8")
        words += ["-m", str(config), "--random-weights"]
    subprocess.run(words, check=True)
    return bundle


def bench(bundle: Path, name: str, seconds: float) -> dict[str, Any]:
    """What `phiedge bench --json` says."""
    words = [sys.executable, "-m", "phiedge", "bench", str(bundle), "--json", "--seconds", f"{seconds:g}"]
    words += ["--contexts", CONTEXTS[name], "--prefill", PROMPTS[name]]
    if PICTURES[name] != "none":
        words += ["--pictures", PICTURES[name]]
    found: dict[str, Any] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return found


def profile(bundle: Path, seconds: float) -> dict[str, float]:
    """How well `phiedge profile` foresees whole requests, those that plan by it."""
    words = [sys.executable, "-m", "phiedge", "profile", str(bundle), "--seconds", f"{seconds:g}", "--json"]
    fit: dict[str, float] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)["fit"]
    return fit


def compare(bundle: Path, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each time that was measured."""
    rows = []
    for row in measured["decode"]:
        context = row["context"]
        rows.append(_row("token", context, row, planned(bundle, measured, prompt=context - 1).token))
    for row in measured["prefill"]:
        tokens = row["tokens"]
        rows.append(_row("prompt", tokens, row, planned(bundle, measured, prompt=tokens).prefill))
    for row in measured["vision"]:
        patches = row["patches"]
        rows.append(_row("picture", patches, row, planned(bundle, measured, prompt=1, patches=(patches,)).vision))
    return rows


def planned(bundle: Path, measured: dict[str, Any], *, prompt: int, patches: tuple[int, ...] = ()) -> TimePlan:
    """As `phiedge plan --target cpu --bundle` plans it, with the rates of the bench."""
    opened, rates = Bundle.open(bundle), measured["rates"]
    storage = storage_of(opened.manifest.precision, activations="float32")
    speeds = processor_speeds(
        read_gbps=rates["read_gbps"]["best"],
        float_gflops=rates["float_gflops"]["best"],
        int8_gops=None if rates["int8_gops"] is None else rates["int8_gops"]["best"],
        quantised=storage.decoder_bits < 16,
    )
    request = Request(patches=patches, prompt_tokens=prompt, answer_tokens=2)
    return plan_time(opened.manifest.facts, sizes_of(opened.manifest.facts, storage), speeds, request)


def _row(kind: str, size: int, measured: dict[str, Any], span: Span) -> dict[str, Any]:
    found_ms = measured["ms"]["p50"]
    return {
        "what": kind,
        "size": size,
        "measured_ms": round(found_ms, 3),
        "samples": measured["ms"]["count"],
        "planned_ms": round(span.planned_ms, 3),
        "expected_ms": [round(span.least_ms, 3), round(span.most_ms, 3)],
        "off": round(span.planned_ms / found_ms - 1, 3),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many rows lie within the share, and how far off they are in the median."""
    errors = [abs(row["off"]) for row in rows]
    return {
        "rows": len(rows),
        "within_20_percent": sum(error <= WITHIN for error in errors),
        "median": round(statistics.median(errors), 3),
        "most": round(max(errors), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold plans against what this machine does.")
    parser.add_argument("action", choices=("make", "measure"))
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the bench")
    parser.add_argument("--profile", type=float, default=0.0, help="seconds of a latency profile; none by default")
    add_options(parser)
    options = parser.parse_args()
    bundle = make(options.name, options.directory)
    if options.action == "make":
        return
    fit = profile(bundle, options.profile) if options.profile else None
    measured = bench(bundle, options.name, options.seconds)
    rows = [row for row in compare(bundle, measured) if row["what"] != "picture" or PICTURES[options.name] != "none"]
    settings: dict[str, object] = {"contexts": CONTEXTS, "prompts": PROMPTS, "pictures": PICTURES}
    found = {
        "rates": measured["rates"],
        "load_average_1m": measured["host"]["load_average_1m"],
        "rows": rows,
        "summary": summarise(rows),
        "profile_fit": fit,
    }
    publish("plan-here", settings, {**kept_today("plan-here", settings), options.name: found}, keep=options.keep)


if __name__ == "__main__":
    main()
