"""phiedge beside onnxruntime-genai: prefill and decode of the same random weights at INT4, interleaved in one run.

    python3.11 -m venv PEER && PEER/bin/pip install onnxruntime-genai onnx onnx-ir torch transformers
    python -m benchmarks.genai_side_by_side --peer-python PEER/bin/python --work DIRECTORY [--keep]

A decoder of this architecture with about 1.3 billion random weights is exported by phiedge and built by the peer's own
model builder, twice: as its defaults are, and matched to phiedge's choices (INT8 lm_head, logits of the last token
only). All three stand ready in a process each; rounds go through them in turns, so that a change of the machine meets
all alike. Bytes per token come from the graphs, and the bandwidth is measured in the same run, before and after.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import bandwidth, graph_bytes, random_checkpoint
from benchmarks.random_checkpoint import DecoderShape, RandomCheckpoint
from benchmarks.record import add_options, publish, summary

SHAPE = DecoderShape(hidden=2048, layers=16, heads=16, kv_heads=4, intermediate=7168, vocab=100352)
# Not 1024: the peer's builder takes any linear with as many outputs as the vocabulary for the lm_head.
TINY = DecoderShape(hidden=256, layers=2, heads=4, kv_heads=1, intermediate=512, vocab=1280)
PEERS = {
    "genai default": (),
    "genai matched": ("matmul_mixed_precision=last_matmul:int8", "prune_lm_head=true"),
}
OURS = "phiedge"
GROUP_SIZE = 32
CHUNK_TOKENS = 256
PAUSE_S = 0.3  # for threads of the engine before to stop spinning


class Worker:
    """One engine in a process of its own, asked by lines of JSON."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.ready = self._read()
        self.peak_rss_bytes = 0

    def ask(self, request: dict[str, object]) -> dict[str, object]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = self._read()
        self.peak_rss_bytes = max(self.peak_rss_bytes, reply["peak_rss_bytes"])
        return reply

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> dict[str, object]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self._process.args[0]} ended with {self._process.wait()}")
        return json.loads(line)


def build_ours(checkpoint: Path, out_dir: Path, *, max_context: int) -> None:
    """Export the checkpoint's graphs at INT4 for a CPU, unless that was done before."""
    if (out_dir / "done").exists():
        return
    from phiedge.calibration.int4 import RoundToNearest
    from phiedge.exporters.checkpoint import open_checkpoint
    from phiedge.exporters.graphs import write_graphs
    from phiedge.exporters.precision import choose_precision

    out_dir.mkdir(parents=True, exist_ok=True)
    plan = choose_precision("int4", sm=None, group_size=GROUP_SIZE).plan
    with open_checkpoint(str(checkpoint)) as opened:
        write_graphs(opened, precision=plan, max_context=max_context, out_dir=out_dir, quantiser=RoundToNearest())
    (out_dir / "done").touch()


def build_peer(peer_python: str, phi3: Path, out_dir: Path, options: Sequence[str], *, threads: int) -> None:
    """Build the peer's model from the same weights, unless that was done before, and fix its number of threads."""
    if not (out_dir / "done").exists():
        command = [peer_python, "-m", "onnxruntime_genai.models.builder", "-i", str(phi3), "-o", str(out_dir)]
        command += ["-p", "int4", "-e", "cpu", "-c", str(out_dir.with_name("builder-cache"))]
        command += ["--extra_options", f"block_size={GROUP_SIZE}", "accuracy_level=4", *options]
        subprocess.run(command, env=peer_environment(), check=True, capture_output=True)
    path = out_dir / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    (out_dir / "done").touch()


def peer_environment() -> dict[str, str]:
    return os.environ | {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def start(options: argparse.Namespace, model: RandomCheckpoint, work: Path) -> dict[str, Worker]:
    arguments = [str(options.max_context), str(options.threads), str(CHUNK_TOKENS)]
    ours = [sys.executable, "-m", "benchmarks.phiedge_worker", str(model.checkpoint), str(work / "phiedge"), *arguments]
    workers = {OURS: Worker(ours, dict(os.environ))}
    script = str(Path(__file__).with_name("genai_worker.py"))
    for name in PEERS:
        command = [options.peer_python, script, str(work / name.replace(" ", "-")), str(options.max_context)]
        workers[name] = Worker(command, peer_environment())
    return workers


def measure(workers: dict[str, Worker], options: argparse.Namespace, vocab: int) -> dict[str, dict[int, list[dict]]]:
    """Replies by engine and prompt length; the first round warms up and is not kept."""
    replies = {name: {length: [] for length in options.prompts} for name in workers}
    order = list(workers)
    pause = threading.Event()
    for round_number in range(options.rounds + 1):
        for length in options.prompts:
            tokens = random.Random(round_number * 10_000 + length).choices(range(vocab), k=length)
            for name in order:
                pause.wait(PAUSE_S)
                reply = workers[name].ask({"tokens": tokens, "steps": options.steps})
                if round_number > 0:
                    replies[name][length].append(reply)
        order = order[1:] + order[:1]
    return replies


def agreement(workers: dict[str, Worker], vocab: int) -> dict[str, float]:
    """The cosine between our first logits and each peer's: that all of them run the same weights."""
    tokens = random.Random(1).choices(range(vocab), k=32)
    logits = {name: np.array(worker.ask({"tokens": tokens})["logits"][-vocab:]) for name, worker in workers.items()}
    ours = logits.pop(OURS)
    return {
        name: round(float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)), 5)
        for name, theirs in logits.items()
    }


def report(replies: dict[int, list[dict]], *, bytes_per_token: int, kv_bytes: int, gbps: float) -> dict[str, object]:
    """What one engine did, by prompt length, beside what memory would allow."""
    found = {}
    for length, rounds in replies.items():
        steps_ms = [step / 1e6 for reply in rounds for step in reply["steps_ns"]]
        firsts_s = [reply["first_ns"] / 1e9 for reply in rounds]
        mean_context = length + len(rounds[0]["steps_ns"]) / 2
        moved = bytes_per_token + kv_bytes * mean_context
        step = summary(steps_ms)
        found[f"prompt {length}"] = {
            "prefill_tokens_per_s": round(length / statistics.median(firsts_s), 1),
            "ttft_ms": summary([1000 * first for first in firsts_s], digits=1),
            "decode_ms_per_token": step,
            "bytes_per_token": int(moved),
            "share_of_bandwidth": round(moved / 1e9 / gbps / (step["median"] / 1e3), 3),
        }
        host_us = [spent / 1e3 for reply in rounds for spent in reply.get("host_ns", ())]
        if host_us:  # only phiedge tells how much of a step is outside ONNX Runtime
            found[f"prompt {length}"]["host_us_per_token"] = summary(host_us, digits=1)
    return found


def ratios(results: dict[str, dict[str, object]]) -> dict[str, dict[str, dict[str, float]]]:
    """How many times faster phiedge is: medians of the peer over ours for times, ours over the peer's for rates."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in PEERS:
        found[name] = {}
        for workload, ours in results[OURS].items():
            theirs = results[name][workload]
            found[name][workload] = {
                "prefill": round(ours["prefill_tokens_per_s"] / theirs["prefill_tokens_per_s"], 3),
                "decode": round(theirs["decode_ms_per_token"]["median"] / ours["decode_ms_per_token"]["median"], 3),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare phiedge with onnxruntime-genai on the same random weights.")
    parser.add_argument("--peer-python", required=True, help="the Python of an environment with onnxruntime-genai")
    parser.add_argument("--work", type=Path, required=True, help="where models are built, and found again next time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=48, help="tokens decoded after each prompt")
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 1024], help="prompt lengths in tokens")
    parser.add_argument("--max-context", type=int, default=2048)
    parser.add_argument("--tiny", action="store_true", help="a toy model, to see that everything works")
    add_options(parser)
    options = parser.parse_args()
    shape = TINY if options.tiny else SHAPE

    model = random_checkpoint.write(options.work, shape)
    build_ours(model.checkpoint, options.work / "phiedge", max_context=options.max_context)
    graphs = {OURS: options.work / "phiedge" / "decoder.ort.onnx"}
    for name, extra in PEERS.items():
        out_dir = options.work / name.replace(" ", "-")
        build_peer(options.peer_python, model.phi3, out_dir, extra, threads=options.threads)
        graphs[name] = out_dir / "model.onnx"
    weights = {name: graph_bytes.weight_bytes(path) for name, path in graphs.items()}

    before = bandwidth.best(bandwidth.measure(threads=options.threads, gib=0.1 if options.tiny else 1.0))
    workers = start(options, model, options.work)
    try:
        cosines = agreement(workers, shape.vocab)
        replies = measure(workers, options, shape.vocab)
    finally:
        for worker in workers.values():
            worker.close()
    after = bandwidth.best(bandwidth.measure(threads=options.threads, gib=0.1 if options.tiny else 1.0))
    gbps = max(before, after)

    kv_bytes = shape.layers * 2 * shape.kv_heads * (shape.hidden // shape.heads) * 4
    results = {
        name: report(replies[name], bytes_per_token=weights[name], kv_bytes=kv_bytes, gbps=gbps) for name in workers
    }
    settings = {
        "decoder": {field: getattr(shape, field) for field in shape.__dataclass_fields__},
        "decoder_parameters": model.decoder_parameters,
        "precision": f"INT4 groups of {GROUP_SIZE}, accuracy level 4, float32 activations and cache",
        "threads": options.threads,
        "rounds": options.rounds,
        "steps": options.steps,
        "max_context": options.max_context,
        "peer_versions": {key: workers["genai default"].ready[key] for key in ("version", "onnxruntime")},
        "peer_options": {name: list(extra) for name, extra in PEERS.items()},
    }
    found = {
        "read_gbps": {"before": before, "after": after},
        "weight_bytes_per_token": weights,
        "logits_cosine_with_phiedge": cosines,
        "load_ms": {name: round(worker.ready["load_ns"] / 1e6) for name, worker in workers.items()},
        "peak_rss_bytes": {name: worker.peak_rss_bytes for name, worker in workers.items()},
        "engines": results,
        "times_faster_than": ratios(results),
    }
    publish("genai-side-by-side", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
