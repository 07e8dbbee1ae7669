"""How evenly tokens come: with and without what a process can ask of its system, idle and beside neighbours.

    python -m benchmarks.decode_jitter --bundle BUNDLE [--seconds 15] [--keep]

Each measurement runs in a process of its own, as some wishes cannot be taken back. "asked" is everything that
`phiedge.runtime.realtime` knows; what the system refused is told. Tokens are decoded at one context, as in a session.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

import phiedge
from benchmarks.neighbours import CONDITIONS, neighbours
from benchmarks.record import add_options, publish
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.realtime import RealtimePolicy, apply
from phiedge.runtime.sampling import Sampler, Sampling

CONTEXT, FIFO_PRIORITY, WARM_STEPS = 300, 10, 200
WAIT_S = 0.004  # between answers, as a thread that never waits is stopped by the system's own limit
TOKENS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the six measurements")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--worker", choices=("plain", "asked"), help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(_measure(options)))
        return
    results: dict[str, dict[str, object]] = {}
    for condition in CONDITIONS:
        with neighbours(condition):
            results[condition] = {hygiene: _worker(options, hygiene) for hygiene in ("plain", "asked")}
    settings = {"seconds": options.seconds, "context": CONTEXT, "tokens": TOKENS, "fifo_priority": FIFO_PRIORITY}
    publish("decode-jitter", settings, results, keep=options.keep)


def _worker(options: argparse.Namespace, hygiene: str) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.decode_jitter", "--bundle", str(options.bundle), "--worker", hygiene]
    command += ["--seconds", str(options.seconds)]
    if options.threads is not None:
        command += ["--threads", str(options.threads)]
    told: dict[str, object] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def _measure(options: argparse.Namespace) -> dict[str, object]:
    bundle = phiedge.Bundle.open(options.bundle)
    model = LoadedModel(bundle, max_context=None, threads=options.threads, chunk_tokens=256)
    model.prefill(model.context)
    sampler, token = Sampler(model.facts.vocab_size), 20
    sampler.start(Sampling())
    reports = []
    times_ns: list[int] = []
    until_ns, rest = 0, threading.Event()
    while not times_ns or time.perf_counter_ns() < until_ns:
        model.seek(CONTEXT)
        model.step(token)
        for _ in range(TOKENS if until_ns else WARM_STEPS):
            begun_ns = time.perf_counter_ns()
            token = sampler.choose(model.step(token))
            times_ns.append(time.perf_counter_ns() - begun_ns)
        if not until_ns:
            times_ns = [0]
            if options.worker == "asked":
                wishes = RealtimePolicy(fifo_priority=FIFO_PRIORITY, lock_memory=True, freeze_garbage=True)
                reports = [f"{report.wish}: {report.status}, {report.detail}" for report in apply(wishes)]
            until_ns = time.perf_counter_ns() + int(1e9 * options.seconds)
        rest.wait(WAIT_S)
    times_ms = np.array(times_ns[1:]) / 1e6
    p50, p99, p999 = (round(float(np.quantile(times_ms, level)), 4) for level in (0.5, 0.99, 0.999))
    return {
        "steps": len(times_ms),
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "worst_ms": round(float(times_ms.max()), 3),
        "p99_over_p50": round(p99 / p50, 2),
        "reports": reports,
    }


if __name__ == "__main__":
    main()
