"""What a decoded token costs outside ONNX Runtime, and whether decoding slows down as the cache grows.

    python -m benchmarks.decode_host --bundle BUNDLE [--tokens 400] [--keep]

The host's share is the time from one streamed token to the next, less the time inside the engine's own run call:
choosing the token, its embedding row, its text, the event. It is measured greedy and with the publisher's sampling.
Then the same is decoded with caches of several capacities: what is allocated and not in use must cost nothing.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import phiedge
from benchmarks.record import add_options, publish, summary

_QUESTIONS = ("Which button pays?", "What is the price of the item on the left?", "How many items are on the shelf?")
SMALLEST_CAPACITY = 512  # a question and some of an answer must fit
_GREEDY = {"temperature": 0.0}
_SAMPLED = {"temperature": 0.8, "top_p": 0.95}


class TimedRun:
    """The engine's run call with a clock around it; everything else is passed on."""

    def __init__(self, run: object) -> None:
        self._run = run
        self.spent_ns = 0

    def __call__(self, binding: object) -> None:
        begun_ns = time.perf_counter_ns()
        self._run(binding)
        self.spent_ns += time.perf_counter_ns() - begun_ns

    def __getattr__(self, name: str) -> object:
        return getattr(self._run, name)


def steps(session: phiedge.Session, timed: TimedRun, sampling: dict[str, float]) -> Iterator[tuple[int, int]]:
    """Nanoseconds in all and inside the engine, for every token but the first of each answer; without end."""
    for seed, question in enumerate(itertools.cycle(_QUESTIONS)):
        last_ns, inside_ns = None, 0
        for event in session.stream(question, think="on", seed=seed, **sampling):
            now_ns = time.perf_counter_ns()
            if last_ns is not None and event.result is None:
                yield now_ns - last_ns, timed.spent_ns - inside_ns
            last_ns, inside_ns = time.perf_counter_ns(), timed.spent_ns


def measure(options: argparse.Namespace, sampling: dict[str, float], *, max_context: int) -> dict[str, object]:
    """Decode `options.tokens` tokens with a cache of `max_context` positions."""
    with phiedge.Session.open(options.bundle, max_context=max_context, threads=options.threads) as session:
        decoder = session._model._decoder
        decoder._run = timed = TimedRun(decoder._run)
        pairs = list(itertools.islice(steps(session, timed, sampling), options.tokens + 30))[30:]  # 30 to warm up
    return {
        "host_us": summary([(total_ns - inside_ns) / 1e3 for total_ns, inside_ns in pairs], digits=1),
        "engine_ms": summary([inside_ns / 1e6 for _, inside_ns in pairs], digits=4),
        "token_ms": summary([total_ns / 1e6 for total_ns, _ in pairs], digits=4),
    }


def best(runs: list[dict[str, object]]) -> dict[str, object]:
    """The run with the fastest median token: the one that the rest of the machine disturbed least."""
    return min(runs, key=lambda figures: figures["token_ms"]["median"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the host's cost of a token, and decoding against capacity.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured, in turns")
    add_options(parser)
    options = parser.parse_args()
    largest = phiedge.Bundle.open(options.bundle).manifest.dialects["ort"].max_context
    capacities = sorted({max(SMALLEST_CAPACITY, largest // part) for part in (16, 4, 1)})

    cases = {"greedy": (_GREEDY, largest), "sampled": (_SAMPLED, largest)}
    cases |= {f"capacity {capacity}": (_GREEDY, capacity) for capacity in capacities}
    runs: dict[str, list[dict[str, object]]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, (sampling, capacity) in cases.items():
            runs[name].append(measure(options, sampling, max_context=capacity))
    found = {name: best(figures) for name, figures in runs.items()}
    by_capacity = [found[f"capacity {capacity}"]["engine_ms"]["median"] for capacity in capacities]
    found["largest_capacity_over_smallest"] = round(by_capacity[-1] / by_capacity[0], 3)
    settings = {"tokens": options.tokens, "threads": options.threads, "rounds": options.rounds}
    publish("decode-host", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
