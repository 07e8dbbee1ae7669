"""phiedge beside onnxruntime-genai by the same deadlines, with the reference model's decoder: text alone.

    python3.11 -m venv PEER && PEER/bin/pip install onnxruntime-genai onnx onnx-ir torch transformers
    python -m benchmarks.deadlines_beside_genai --peer-python PEER/bin/python --bundle BUNDLE --work DIRECTORY [--keep]

The peer's graph is the int4 build of its own model builder from the same weights. Questions come without pictures, as
its decoder takes tokens, and have texts of several lengths before them; the model is told to think. An answer counts
if it was there by the deadline, its thinking closed, and has the form that was asked for; it ended by itself, or
was completed by force, which is counted for itself. The means:
- phiedge: a budget that is attempted; and the same with the form given as a pattern.
- genai, max length: as many tokens as fit by the median speeds that were measured before.
- genai, terminate: a timer that ends the session at the deadline.
Deadlines are drawn from 0.3 to 3 times of what a request takes typically on the slower of the two.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import phiedge
from benchmarks.deadlines import profile_of
from benchmarks.peers_side_by_side import Worker, build_genai, peer_environment
from benchmarks.random_checkpoint import phi3_config
from benchmarks.record import add_options, publish
from phiedge.reference import MODEL_PATH as MODEL
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.realtime import RealtimePolicy, apply
from phiedge.runtime.session import DEFAULT_CHUNK_TOKENS

QUESTIONS = ("How many buttons are there?", "What number is on the display?")
FORM = phiedge.PatternForm(pattern="[0-9]{1,4}")
BEFORE = (0, 64, 256, 512)  # words of text, about a token each
ANSWER_TOKENS, MAX_NEW_TOKENS, MAX_LENGTH, WARM = 6, 96, 1024, 24
BY_FORCE = "<by force>"
OURS, OURS_OF_FORM = "phiedge", "phiedge, with a form"
BY_LENGTH, BY_TERMINATING = "genai, max length", "genai, terminate"


@dataclass(slots=True, kw_only=True)
class Peer:
    """onnxruntime-genai in a process of its own, and the model's tokens."""

    worker: Worker
    model: LoadedModel
    first_ms: dict[int, float] = field(default_factory=dict)
    step_ms: float = 0.0

    def ask(self, question: str, *, most: int | None = None, terminate_ms: float | None = None) -> tuple[str, float]:
        """The whole text that was written, and the milliseconds from the call."""
        begun_ns = time.perf_counter_ns()
        prompt = self.model.prompts.chat(question, images=0, think="on")
        told = self.worker.ask({"tokens": list(prompt.pieces[0]), "most": most, "terminate_ms": terminate_ms})
        text = self._written(told["tokens"]) + ("<end>" if told["ended"] else "")
        return text, (time.perf_counter_ns() - begun_ns) / 1e6

    def fits(self, question: str, deadline_ms: float) -> int:
        """How many tokens fit by the median speeds."""
        return int((deadline_ms - self.first_ms[len(question.split())]) / self.step_ms) + 1

    def learn(self, questions: list[str]) -> float:
        """Measure both speeds; returns what a request takes at the median."""
        steps, whole = [], []
        for question in questions:
            first = statistics.median(self.ask(question, most=1)[1] for _ in range(5))
            self.first_ms[len(question.split())] = first
            many = statistics.median(self.ask(question, most=17)[1] for _ in range(5))
            steps.append((many - first) / 16)
            whole.append(self.ask(question, most=MAX_NEW_TOKENS)[1])
        self.step_ms = max(1e-3, statistics.median(steps))
        return statistics.median(whole)

    def _written(self, tokens: list[int]) -> str:
        facts, tokenizer = self.model.facts, self.model.tokenizer
        mark = {facts.end_think_token_id: "</think>"}
        text = (mark.get(token, tokenizer.bytes_of(token).decode("utf-8", "replace")) for token in tokens)
        return "".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile-seconds", type=float, default=60.0, help="0 takes the profile in the bundle")
    add_options(parser)
    options = parser.parse_args()
    bundle = phiedge.Bundle.open(options.bundle)
    genai = build_genai(
        options.peer_python, phi3_checkpoint(options.work), options.work / "genai", threads=options.threads
    )
    profile_of(bundle, options)
    worker_file = Path(__file__).with_name("genai_deadline_worker.py")
    worker = Worker([options.peer_python, str(worker_file), str(genai), str(MAX_LENGTH)], peer_environment())
    model = LoadedModel(bundle, max_context=MAX_LENGTH, threads=1, chunk_tokens=DEFAULT_CHUNK_TOKENS)
    peer = Peer(worker=worker, model=model)
    with phiedge.Session.open(bundle, threads=options.threads) as session:
        apply(RealtimePolicy(freeze_garbage=True))
        results = _all(session, peer, options.requests)
    worker.close()
    settings = {"requests": options.requests, "threads": options.threads, "precision": bundle.manifest.precision.name}
    publish("deadlines-beside-genai", settings, results, keep=options.keep)


def phi3_checkpoint(work: Path) -> Path:
    """The reference model's decoder as a checkpoint that the peer's builder knows."""
    from safetensors.numpy import load_file, save_file

    directory = work / "phi3"
    if (directory / "model.safetensors").exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    tensors = load_file(MODEL / "model.safetensors")
    text = {name: array for name, array in tensors.items() if not name.startswith(_VISION_PARTS)}
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(phi3_config(config), indent=1), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(MODEL / name, directory / name)
    save_file(text, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


_VISION_PARTS = ("model.vision_tower.", "model.mm_projector.")


def _all(session: phiedge.Session, peer: Peer, requests: int) -> dict[str, object]:
    asked = [f"{'button ' * before}{question}" for before in BEFORE for question in QUESTIONS]
    peers_ms = peer.learn(asked)
    ours_ms = statistics.median(
        session.generate(question, think="on", max_new_tokens=MAX_NEW_TOKENS).timings_ms.total
        for question in asked * (WARM // len(asked))
    )
    typical_ms, draw = max(peers_ms, ours_ms), random.Random(7)
    found: dict[str, Counter[str]] = {name: Counter() for name in (OURS, OURS_OF_FORM, BY_LENGTH, BY_TERMINATING)}
    late: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(requests):
        question, deadline_ms = draw.choice(asked), typical_ms * draw.uniform(0.3, 3.0)
        most = max(1, min(MAX_NEW_TOKENS, peer.fits(question, deadline_ms)))
        ways = {
            OURS: partial(_ours, session, question, deadline_ms),
            OURS_OF_FORM: partial(_ours, session, question, deadline_ms, form=FORM),
            BY_LENGTH: partial(peer.ask, question, most=most),
            BY_TERMINATING: partial(peer.ask, question, most=MAX_NEW_TOKENS, terminate_ms=deadline_ms),
        }
        for name, ask in ways.items():
            text, ms = ask()
            forced = text.startswith(BY_FORCE)
            text = text.removeprefix(BY_FORCE)
            late[name].append(max(0.0, ms - deadline_ms))
            found[name]["on_time"] += ms <= deadline_ms
            good = ms <= deadline_ms and _has_form(text)
            found[name]["good"] += good
            found[name]["by_force"] += good and forced
    return {
        "typical_ms": round(typical_ms, 2),
        "median_ms": {"phiedge": round(ours_ms, 2), "genai": round(peers_ms, 2)},
        "ways": {
            name: {
                "on_time": round(counts["on_time"] / requests, 4),
                "on_time_and_of_form": round(counts["good"] / requests, 4),
                "completed_by_force": round(counts["by_force"] / requests, 4),
                "overrun_ms_p99": round(sorted(late[name])[int(0.99 * requests)], 2),
                "overrun_ms_worst": round(max(late[name]), 2),
            }
            for name, counts in found.items()
        },
        "load_average": round(os.getloadavg()[0], 2),
    }


def _ours(
    session: phiedge.Session, question: str, deadline_ms: float, form: phiedge.PatternForm | None = None
) -> tuple[str, float]:
    begun_ns = time.perf_counter_ns()
    budget = phiedge.Budget(deadline_ms=deadline_ms, answer_tokens=ANSWER_TOKENS, on_infeasible="attempt")
    result = session.generate(question, think="on", max_new_tokens=MAX_NEW_TOKENS, budget=budget, form=form)
    ms = (time.perf_counter_ns() - begun_ns) / 1e6
    # A form that is complete needs no token to end it.
    ended = "<end>" if result.finish_reason == "stop" or (form is not None and result.answer) else ""
    return f"{BY_FORCE if result.made_up else ''}{result.thinking}</think>{result.answer}{ended}", ms


def _has_form(text: str) -> bool:
    """Whether a thinking was closed, and after it comes what was asked for, and the end."""
    return re.search(rf"</think>\s*{FORM.pattern}\s*<end>$", text) is not None


if __name__ == "__main__":
    main()
