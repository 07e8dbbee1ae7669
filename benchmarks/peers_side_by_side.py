"""phiedge beside its peers: prefill and decode of the same random weights at int4, interleaved in one run.

    python3.11 -m venv PEER && PEER/bin/pip install onnxruntime-genai onnx onnx-ir torch transformers
    python3.11 -m venv LLAMA && LLAMA/bin/pip install --no-binary llama-cpp-python llama-cpp-python
    python -m benchmarks.peers_side_by_side --peer-python PEER/bin/python --llama-python LLAMA/bin/python \\
        --work DIRECTORY [--keep]

A decoder of this architecture with about 1.3 billion random weights, on
- phiedge: exported in groups of 128, on ONNX Runtime and on OpenVINO;
- onnxruntime-genai: the int4 CPU build of its own model builder, as it comes (groups of 32, int4 head);
- llama.cpp: Q4_0 with a Q8_0 head, written without loss from phiedge's export in groups of 32;
- OpenVINO: phiedge's weights in groups of 128 as a stateful model, with OpenVINO's own defaults.
All stand ready in a process each; rounds go through them in turns, so that a change of the machine meets all alike.
Bytes per token are those of the weights as stored and of the cache; the bandwidth is measured before and after.
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

from benchmarks import bandwidth, gguf_file, graph_bytes, random_checkpoint
from benchmarks.random_checkpoint import DecoderShape, RandomCheckpoint
from benchmarks.record import add_options, publish, summary
from phiedge.exporters.config import ModelConfig

SHAPE = DecoderShape(hidden=2048, layers=16, heads=16, kv_heads=4, intermediate=7168, vocab=100352)
# Not 1024: the peer's builder takes any linear with as many outputs as the vocabulary for the lm_head.
TINY = DecoderShape(hidden=256, layers=2, heads=4, kv_heads=1, intermediate=512, vocab=1280)
OURS = "phiedge"
OURS_ON_OPENVINO = "phiedge, openvino"
GENAI, LLAMA, OPENVINO = "onnxruntime-genai", "llama.cpp Q4_0", "OpenVINO"
# Bytes of an element of the cache: 8-bit integers are OpenVINO's default, float16 is llama.cpp's.
CACHE_ITEM_BYTES = {OURS: 4, OURS_ON_OPENVINO: 4, GENAI: 4, LLAMA: 2, OPENVINO: 1}
GROUP_SIZE, PEER_GROUP_SIZE = 128, 32
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


def build_ours(checkpoint: Path, out_dir: Path, *, group_size: int, max_context: int) -> Path:
    """Export the checkpoint's graphs at int4, unless that was done before."""
    if (out_dir / "done").exists():
        return out_dir
    from phiedge.calibration.int4 import RoundToNearest
    from phiedge.exporters.checkpoint import open_checkpoint
    from phiedge.exporters.graphs import write_graphs
    from phiedge.exporters.precision import choose_precision

    out_dir.mkdir(parents=True, exist_ok=True)
    plan = choose_precision("int4", sm=None, group_size=group_size).plan
    with open_checkpoint(str(checkpoint)) as opened:
        write_graphs(opened, precision=plan, max_context=max_context, out_dir=out_dir, quantiser=RoundToNearest())
    (out_dir / "done").touch()
    return out_dir


def build_genai(peer_python: str, phi3: Path, out_dir: Path, *, threads: int) -> Path:
    """Build the peer's model from the same weights, unless that was done before, and fix its number of threads."""
    if not (out_dir / "done").exists():
        command = [peer_python, "-m", "onnxruntime_genai.models.builder", "-i", str(phi3), "-o", str(out_dir)]
        command += ["-p", "int4", "-e", "cpu", "-c", str(out_dir.with_name("builder-cache"))]
        command += ["--extra_options", f"block_size={PEER_GROUP_SIZE}", "accuracy_level=4"]
        subprocess.run(command, env=peer_environment(), check=True, capture_output=True)
    path = out_dir / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    (out_dir / "done").touch()
    return out_dir


def peer_environment() -> dict[str, str]:
    return os.environ | {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def build(options: argparse.Namespace, model: RandomCheckpoint) -> dict[str, Path]:
    """Everything that is run, made or found again in the work directory."""
    work, context = options.work, options.max_context
    ours = build_ours(model.checkpoint, work / "phiedge-128", group_size=GROUP_SIZE, max_context=context)
    in_32 = build_ours(model.checkpoint, work / "phiedge-32", group_size=PEER_GROUP_SIZE, max_context=context)
    genai = build_genai(options.peer_python, model.phi3, work / "genai-default", threads=options.threads)
    return {OURS: ours, OURS_ON_OPENVINO: ours, OPENVINO: ours, GENAI: genai, LLAMA: in_32}


def start(
    options: argparse.Namespace, model: RandomCheckpoint, built: dict[str, Path], gguf: Path
) -> dict[str, Worker]:
    here, context, threads = Path(__file__).parent, str(options.max_context), str(options.threads)

    def ours(backend: str) -> list[str]:
        arguments = [str(model.checkpoint), str(built[OURS]), context, threads, str(CHUNK_TOKENS)]
        return [sys.executable, "-m", "benchmarks.phiedge_worker", *arguments, backend, str(GROUP_SIZE)]

    stateful = [str(model.checkpoint), str(built[OPENVINO]), context, threads]
    commands = {
        OURS: ours("onnxruntime"),
        OURS_ON_OPENVINO: ours("openvino"),
        GENAI: [options.peer_python, str(here / "genai_worker.py"), str(built[GENAI]), context],
        LLAMA: [options.llama_python, str(here / "llama_worker.py"), str(gguf), context, threads],
        OPENVINO: [sys.executable, "-m", "benchmarks.openvino_worker", *stateful],
    }
    return {name: Worker(command, peer_environment()) for name, command in commands.items()}


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
        if host_us:  # only phiedge tells how much of a step is outside the library
            found[f"prompt {length}"]["host_us_per_token"] = summary(host_us, digits=1)
    return found


def ratios(results: dict[str, dict[str, object]]) -> dict[str, dict[str, dict[str, float]]]:
    """How many times faster each engine of ours is than the fastest peer, by workload and phase."""
    peers = [name for name in results if name not in (OURS, OURS_ON_OPENVINO)]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in (OURS, OURS_ON_OPENVINO):
        found[name] = {}
        for workload, ours in results[name].items():
            fastest = max(results[peer][workload]["prefill_tokens_per_s"] for peer in peers)
            shortest = min(results[peer][workload]["decode_ms_per_token"]["median"] for peer in peers)
            found[name][workload] = {
                "prefill": round(ours["prefill_tokens_per_s"] / fastest, 3),
                "decode": round(shortest / ours["decode_ms_per_token"]["median"], 3),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare phiedge with its peers on the same random weights.")
    parser.add_argument("--peer-python", required=True, help="the Python of an environment with onnxruntime-genai")
    parser.add_argument("--llama-python", required=True, help="the Python of an environment with llama-cpp-python")
    parser.add_argument("--work", type=Path, required=True, help="where models are built, and found again next time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="tokens decoded after each prompt")
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 1024], help="prompt lengths in tokens")
    parser.add_argument("--max-context", type=int, default=2048)
    parser.add_argument("--tiny", action="store_true", help="a toy model, to see that everything works")
    add_options(parser)
    options = parser.parse_args()
    shape = TINY if options.tiny else SHAPE

    model = random_checkpoint.write(options.work, shape)
    built, gguf = build(options, model), options.work / "q4_0.gguf"
    graphs = {OURS: "decoder.ort.onnx", OURS_ON_OPENVINO: "decoder.ort.onnx", OPENVINO: "decoder.ort.onnx"}
    graphs[GENAI] = "model.onnx"
    weights = {name: graph_bytes.weight_bytes(built[name] / graph) for name, graph in graphs.items()}
    weights[LLAMA] = gguf_file.write(built[LLAMA], ModelConfig.from_dir(model.checkpoint).facts(), gguf)

    before = bandwidth.best(bandwidth.measure(threads=options.threads))
    workers = start(options, model, built, gguf)
    try:
        cosines = agreement(workers, shape.vocab)
        replies = measure(workers, options, shape.vocab)
    finally:
        for worker in workers.values():
            worker.close()
    after = bandwidth.best(bandwidth.measure(threads=options.threads))
    gbps = max(before, after)

    kv_items = shape.layers * 2 * shape.kv_heads * (shape.hidden // shape.heads)
    results = {
        name: report(
            replies[name], bytes_per_token=weights[name], kv_bytes=kv_items * CACHE_ITEM_BYTES[name], gbps=gbps
        )
        for name in workers
    }
    settings = {
        "decoder": {field: getattr(shape, field) for field in shape.__dataclass_fields__},
        "decoder_parameters": model.decoder_parameters,
        "group_size": {OURS: GROUP_SIZE, OPENVINO: GROUP_SIZE, GENAI: PEER_GROUP_SIZE, LLAMA: PEER_GROUP_SIZE},
        "threads": options.threads,
        "rounds": options.rounds,
        "steps": options.steps,
        "max_context": options.max_context,
        "versions": {name: worker.ready["version"] for name, worker in workers.items()},
    }
    found = {
        "read_gbps": {"before": before, "after": after},
        "weight_bytes_per_token": weights,
        "logits_cosine_with_phiedge": cosines,
        "load_ms": {name: round(worker.ready["load_ns"] / 1e6) for name, worker in workers.items()},
        "peak_rss_bytes": {name: worker.peak_rss_bytes for name, worker in workers.items()},
        "engines": results,
        "times_faster_than_the_fastest_peer": ratios(results),
    }
    publish("peers-side-by-side", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
