"""Answers in JSON that come in time and parse, beside onnxruntime-genai with its own means, on the same weights.

    python -m benchmarks.forms_by_deadline --bundle BUNDLE --peer-python PEER/bin/python --peer-model DIRECTORY \\
        [--requests 8] [--profile-seconds 60] [--keep]

`BUNDLE` and `DIRECTORY` are of the same random weights, as `benchmarks.peers_side_by_side` makes them. Both engines
keep to the schema by the same library. The same prompts go to both in turns, first without a deadline, then with
deadlines that are shares of what a whole answer took, of the two engines the slower. The peer gets the most tokens that
its own pace leaves time for, and begins no token that the slowest so far would end late.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import phiedge
from benchmarks.record import add_options, publish
from phiedge.errors import BudgetError
from phiedge.runtime.profile.profiling import measure_profile
from phiedge.runtime.profile.store import write_profile

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "maxLength": 16},
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "box": {"type": "array", "items": {"enum": [*range(0, 1000, 50)]}, "minItems": 4, "maxItems": 4},
    },
    "required": ["label", "colour", "count", "box"],
    "additionalProperties": False,
}
# What phiedge sets for every schema, so that both write the same.
STYLE = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
QUESTIONS = ("What is it?", "What stands on the left?", "Which one is open?", "Where do I pay?", "What is above it?")
SHARES = (0.15, 0.3, 0.5, 0.75, 1.0, 1.25)
MOST_TOKENS = 120


@dataclass(frozen=True)
class Answered:
    text: str
    total_ms: float
    first_ms: float
    tokens: int
    by_force: bool = False


class Peer:
    """onnxruntime-genai in a process of its own."""

    def __init__(self, python: Path, model: Path, encode: Callable[[str], list[int]]) -> None:
        worker = Path(__file__).with_name("genai_form_worker.py")
        command = [str(python), str(worker), str(model)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._encode = encode
        self.version = json.loads(self._process.stdout.readline())["version"]
        self._token_ms = self._first_ms = 0.0

    def ask(self, question: str, deadline_ms: float | None) -> Answered:
        most = MOST_TOKENS
        if deadline_ms is not None:
            most = max(1, min(most, 1 + int((deadline_ms - self._first_ms) / self._token_ms)))
        tokens = self._encode(question)
        request = {"tokens": tokens, "schema": SCHEMA | STYLE, "most": most, "deadline_ms": deadline_ms}
        self._process.stdin.write(json.dumps(request) + "\n")
        return Answered(**json.loads(self._process.stdout.readline()))

    def learn(self, answered: list[Answered]) -> None:
        """Take its pace from whole answers."""
        self._first_ms = statistics.median(one.first_ms for one in answered)
        self._token_ms = statistics.median((one.total_ms - one.first_ms) / max(1, one.tokens - 1) for one in answered)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def ours(session: phiedge.Session, question: str, deadline_ms: float | None) -> Answered | None:
    budget = None if deadline_ms is None else phiedge.Budget(deadline_ms=deadline_ms)
    form = phiedge.JsonForm(SCHEMA)
    try:
        result = session.generate(question, raw=True, form=form, max_new_tokens=MOST_TOKENS, budget=budget)
    except BudgetError:
        return None
    times = result.timings_ms
    first_ms = times.first_token or times.total
    return Answered(result.answer, times.total, first_ms, len(result.token_ids), bool(result.made_up))


def parses(text: str) -> bool:
    """Whether an answer has every field of the schema."""
    try:
        return set(json.loads(text)) == set(SCHEMA["required"])
    except ValueError:
        return False


def tally(answers: list[Answered | None], deadline_ms: float) -> dict[str, float | int]:
    there = [answer for answer in answers if answer is not None]
    late_ms = [max(0.0, answer.total_ms - deadline_ms) for answer in there]
    good = [answer for answer, late in zip(there, late_ms, strict=True) if parses(answer.text) and late == 0]
    return {
        "in_time_and_parses": round(len(good) / len(answers), 4),
        "completed_by_force": round(sum(answer.by_force for answer in good) / len(answers), 4),
        "refused": len(answers) - len(there),
        "late": sum(late > 0 for late in late_ms),
        "overrun_ms_most": round(max(late_ms, default=0.0), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare answers in JSON by a deadline.")
    for name in ("bundle", "peer-python", "peer-model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--profile-seconds", type=float, default=60.0, help="0: what the bundle has")
    parser.add_argument("--threads", type=int, default=2)
    add_options(parser)
    options = parser.parse_args()
    bundle = phiedge.Bundle.open(options.bundle)
    if options.profile_seconds:
        write_profile(bundle, measure_profile(bundle, threads=options.threads, seconds=options.profile_seconds))
    with phiedge.Session.open(bundle, threads=options.threads) as session:
        session.compile(phiedge.JsonForm(SCHEMA))
        at_once = session._model.tokenizer.nothink_text
        asked = [f"{QUESTIONS[k % len(QUESTIONS)]} {k}{at_once}" for k in range(options.requests)]
        peer = Peer(options.peer_python, options.peer_model, session._model.tokenizer.encode)
        pairs = [(ours(session, question, None), peer.ask(question, None)) for question in asked]
        peer.learn([theirs for _, theirs in pairs])
        whole_ms = {
            "phiedge": round(statistics.median(one.total_ms for one, _ in pairs), 1),
            "onnxruntime-genai": round(statistics.median(theirs.total_ms for _, theirs in pairs), 1),
        }
        found: dict[str, object] = {"whole_answer_ms": whole_ms, "peer_version": peer.version}
        for share in SHARES:
            deadline_ms = share * max(whole_ms.values())
            answers = [(ours(session, question, deadline_ms), peer.ask(question, deadline_ms)) for question in asked]
            found[f"{share:g}"] = {
                "deadline_ms": round(deadline_ms),
                "phiedge": tally([one for one, _ in answers], deadline_ms),
                "onnxruntime-genai": tally([theirs for _, theirs in answers], deadline_ms),
            }
        peer.close()
    settings = {"requests": options.requests, "threads": options.threads, "profile_seconds": options.profile_seconds}
    publish("forms-by-deadline", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
