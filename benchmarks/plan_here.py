"""How far `phiedge plan` lies from what this machine then does: tokens, prompts and pictures, model by model.

    python -m benchmarks.plan_here make reference DIRECTORY
    python -m benchmarks.plan_here measure reference DIRECTORY [--seconds 60] [--profile 60] [--keep]

and the same for 1b and 15b. `make` exports a bundle below DIRECTORY for the CPU, with random weights but for the
reference model. `measure` opens it, and beside it a sample of the model as `phiedge plan --target cpu` takes it, which
knows nothing of the bundle but its facts and precision. Both are timed in turns, as a machine whose neighbours come and
go is another one half a minute later: the median of the samples is what is planned with, that of the turns' medians
what was measured; both are kept turn by turn. With `--profile` a latency profile is measured right before, which tells
how far off it foresees whole requests that it did not see. Results of one day are kept together.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import random_checkpoint
from benchmarks.peers_side_by_side import SHAPE
from benchmarks.record import add_options, kept_today, publish
from phiedge.bundle import Bundle
from phiedge.devices.planning.sampled import SampledTimes
from phiedge.devices.planning.speeds import processor_speeds
from phiedge.devices.planning.storage import sizes_of, storage_of
from phiedge.devices.planning.time import CHUNK_TOKENS, Request, Span, TimePlan, plan_time
from phiedge.engines.backends import DEFAULT_BACKEND
from phiedge.engines.machine_rates import MachineRates, measure_rates
from phiedge.engines.onnxruntime.sample.sampling import ModelSample
from phiedge.engines.threads import default_threads
from phiedge.runtime.bench.decode import measure_decode
from phiedge.runtime.bench.plan import picture_case
from phiedge.runtime.bench.prefill import measure_prefill
from phiedge.runtime.bench.vision import measure_vision
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.preprocess import PatchBudget
from tests.support.published import PUBLISHED_CONFIG

NAMES = ("reference", "1b", "15b")
CONTEXTS = (64, 1024, 4096)
PROMPTS = {"reference": (100, 256, 1024), "1b": (100, 256, 1024), "15b": (100, 256)}
PICTURES = {"reference": ("256x256",), "1b": (), "15b": ("256x256", "640x480")}  # the 1b's encoder is that of the tests
MOST_POSITIONS = 4096
WITHIN = 0.2

Knots: TypeAlias = tuple[tuple[int, float], ...]
Case: TypeAlias = tuple[str, int]  # what is timed, and its size


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


def profile(bundle: Path, seconds: float) -> dict[str, float]:
    """How well `phiedge profile` foresees whole requests, those that plan by it."""
    words = [sys.executable, "-m", "phiedge", "profile", str(bundle), "--seconds", f"{seconds:g}", "--json"]
    fit: dict[str, float] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)["fit"]
    return fit


class Measured:
    """A bundle opened as a session opens it, and what `phiedge bench` would measure of it."""

    def __init__(self, bundle: Path, name: str) -> None:
        opened = Bundle.open(bundle)
        context = min(MOST_POSITIONS, opened.manifest.max_context)
        self._model = LoadedModel(opened, max_context=context, threads=default_threads(), chunk_tokens=CHUNK_TOKENS)
        self._name = name
        budget = PatchBudget.from_facts(opened.manifest.facts)
        self._pictures = [picture_case(size, budget) for size in PICTURES[name]]

    @property
    def patches(self) -> int:
        """Of the largest picture; 0 for none."""
        return max((case.grid.tokens for case in self._pictures), default=0)

    def turn(self, seconds: float) -> dict[Case, list[float]]:
        """Every case once more, in about so many seconds: milliseconds."""
        clock, found = time.perf_counter_ns, {}
        part_ns = int(seconds * 1e9 / (len(CONTEXTS) + 2 * len(PROMPTS[self._name]) + len(self._pictures)))
        for context in CONTEXTS:
            steps = measure_decode(
                self._model,
                context=context,
                at_least=4,
                at_most=200,
                until_ns=clock() + part_ns,
                clock_ns=clock,
                warms_up=True,
            )
            found["token", context] = [ns / 1e6 for ns in steps.token_ns]
        for tokens in PROMPTS[self._name]:
            spent_ns = measure_prefill(self._model, length=tokens, until_ns=clock() + 2 * part_ns, clock_ns=clock)
            found["prompt", tokens] = [ns / 1e6 for ns in spent_ns]
        for case in self._pictures:
            samples = measure_vision(self._model, case=case, until_ns=clock() + part_ns, clock_ns=clock)
            found["picture", case.grid.tokens] = list(samples.vision_ms)
        return found


def in_turns(
    bundle: Path, name: str, *, turns: int, seconds: float
) -> tuple[list[SampledTimes], list[dict[Case, list[float]]]]:
    """Samples and measurements, one after the other, with a sample more at the end."""
    manifest = Bundle.open(bundle).manifest
    measured = Measured(bundle, name)
    sample = ModelSample(
        manifest.facts,
        manifest.precision,
        positions=min(MOST_POSITIONS, manifest.max_context),
        patches=measured.patches,
        threads=default_threads(),
    )
    samples, times = [sample.times()], []
    for _ in range(turns):
        times.append(measured.turn(seconds))
        samples.append(sample.times())
    return samples, times


def middle_of(samples: Sequence[SampledTimes]) -> SampledTimes:
    """The median of samples of the same model, time by time."""

    def middle(each: Sequence[Knots]) -> Knots:
        return tuple(
            (at, statistics.median(knots[place][1] for knots in each)) for place, (at, _) in enumerate(each[0])
        )

    return replace(
        samples[0],
        token_ms=middle([sample.token_ms for sample in samples]),
        chunk_ms=middle([sample.chunk_ms for sample in samples]),
        past_ms=middle([sample.past_ms for sample in samples]),
        picture_ms=middle([sample.picture_ms for sample in samples]),
    )


def compare(
    bundle: Path, rates: MachineRates, sampled: SampledTimes, times: Sequence[dict[Case, list[float]]]
) -> list[dict[str, Any]]:
    """A row for each time that was measured: the median of the medians of all turns."""
    rows = []
    for what, size in times[0]:
        turns = [turn[what, size] for turn in times]
        medians = [statistics.median(turn) for turn in turns]
        found = {"ms": statistics.median(medians), "turns_ms": medians, "count": sum(map(len, turns))}
        if what == "picture":
            span = plan_for(bundle, rates, sampled, prompt=1, patches=(size,)).vision
        elif what == "prompt":
            span = plan_for(bundle, rates, sampled, prompt=size).prefill
        else:
            span = plan_for(bundle, rates, sampled, prompt=size - 1).token
        rows.append(_row(what, size, found, span))
    return rows


def plan_for(
    bundle: Path, rates: MachineRates, sampled: SampledTimes, *, prompt: int, patches: tuple[int, ...] = ()
) -> TimePlan:
    """As `phiedge plan --target cpu --bundle` plans it, with this sample and these rates."""
    manifest = Bundle.open(bundle).manifest
    facts, storage = manifest.facts, storage_of(manifest.precision, activations="float32", facts=manifest.facts)
    speeds = processor_speeds(
        read_gbps=rates.read_gbps.best,
        float_gflops=rates.float_gflops.best,
        int8_gops=None if rates.int8_gops is None else rates.int8_gops.best,
        quantised=storage.decoder_bits < 16,
        sampled=sampled,
    )
    request = Request(patches=patches, prompt_tokens=prompt, answer_tokens=2)
    return plan_time(facts, sizes_of(facts, storage), speeds, request)


def _row(what: str, size: int, found: dict[str, Any], span: Span) -> dict[str, Any]:
    return {
        "what": what,
        "size": size,
        "measured_ms": round(found["ms"], 3),
        "turns_ms": [round(ms, 3) for ms in found["turns_ms"]],
        "samples": found["count"],
        "planned_ms": round(span.planned_ms, 3),
        "expected_ms": [round(span.least_ms, 3), round(span.most_ms, 3)],
        "off": round(span.planned_ms / found["ms"] - 1, 3),
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
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the bundle in each turn")
    parser.add_argument("--profile", type=float, default=0.0, help="seconds of a latency profile; none by default")
    add_options(parser)
    options = parser.parse_args()
    bundle = make(options.name, options.directory)
    if options.action == "make":
        return
    load_average = os.getloadavg()[0]
    fit = profile(bundle, options.profile) if options.profile else None
    rates = measure_rates(backend=DEFAULT_BACKEND, threads=default_threads())
    assert rates is not None
    samples, times = in_turns(bundle, options.name, turns=options.turns, seconds=options.seconds)
    rows = compare(bundle, rates, middle_of(samples), times)
    settings: dict[str, object] = {"contexts": CONTEXTS, "prompts": PROMPTS, "pictures": PICTURES}
    found = {
        "rates": asdict(rates),
        "layers_sampled": samples[0].layers,
        "samples": [asdict(sample) for sample in samples],
        "load_average_1m": round(load_average, 2),
        "rows": rows,
        "summary": summarise(rows),
        "profile_fit": fit,
    }
    publish("plan-here", settings, {**kept_today("plan-here", settings), options.name: found}, keep=options.keep)


if __name__ == "__main__":
    main()
