"""What a form costs and brings: host time per token, right answers, and answers that parse when a deadline cuts them.

    python -m benchmarks.structured --bundle BUNDLE [--tokenizer FILE] [--per-task 40] [--keep]

*Host time*: a text of each form is written token by token by scores that favour it, over the bundle's own vocabulary
and, with `--tokenizer`, over the one of another tokenizer.json (the 15B model's has a hundred thousand entries; padded
to a multiple of 64, its stop token is the last entry). The time is that of one choice, less that of a choice without a
form. Peers that are installed (`xgrammar`, `outlines_core`) fill the mask of a JSON Schema over the same vocabulary.

*Right answers*: held-out questions of the reference model, with the form of their task and without.

*Deadlines*: the same questions about places with deadlines that are multiples of the usual time of a whole answer, and
are attempted without a promise.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tokenizers

import phiedge
from benchmarks.record import add_options, publish, summary
from phiedge.errors import BudgetError
from phiedge.reference.evaluate import held_out
from phiedge.reference.questions import Question
from phiedge.reference.scenes import COLOURS
from phiedge.runtime.forms.following import Following
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, Form, JsonForm, PatternForm
from phiedge.runtime.forms.grammar import Grammars
from phiedge.runtime.sampling import Sampler
from phiedge.runtime.tokens import _unspell

ITEM = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer"},
        "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    },
    "required": ["label", "colour", "count", "box"],
    "additionalProperties": False,
}
TEXTS: dict[str, tuple[Form, str]] = {
    "choice": (ChoiceForm(["left", "right", "above", "below"]), "right"),
    "box": (BoxForm(), "[0.35, 0.20, 0.65, 0.45]"),
    "schema": (
        JsonForm(ITEM),
        '{"label": "the can that stands on the left", "colour": "green", "count": 12, "box": [0.1, 0.25, 0.4, 0.5]}',
    ),
}
TASK_FORMS: dict[str, Form] = {
    "colour": ChoiceForm(list(COLOURS)),
    "count": PatternForm("[0-9]{1,2}"),
    "digit": PatternForm("[0-9]{1,4}"),
    "relation": ChoiceForm(["left", "right", "above", "below"]),
    "read": PatternForm("[A-Z]{2,8}"),
    "click": BoxForm(),
}
SHARES = (0.7, 0.8, 0.9, 1.0, 1.2, 1.5)


class Vocabulary:
    """What grammars need of a tokenizer, from any byte-level tokenizer.json."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        spelled = self._tokenizer.get_vocab(with_added_tokens=True)
        added = self._tokenizer.get_added_tokens_decoder()
        self._bytes = {token: b"" if token in added else _unspell(text) for text, token in spelled.items()}
        self.size = -(-(max(self._bytes) + 1) // 64) * 64
        stops = [token for token, entry in added.items() if entry.content == "<|im_end|>"]
        self.facts = SimpleNamespace(vocab_size=self.size, eos_token_ids=tuple(stops or [max(self._bytes)]))

    def described(self) -> str:
        return self._tokenizer.to_str()

    def bytes_of(self, token: int) -> bytes:
        return self._bytes.get(token, b"")

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def host_us(path: Path, rounds: int) -> dict[str, object]:
    """Microseconds that a form adds to a choice over the vocabulary of a tokenizer."""
    vocabulary = Vocabulary(path)
    begun = time.perf_counter()
    grammars = Grammars(vocabulary, vocabulary.facts)
    _ = grammars.tokens
    found: dict[str, object] = {
        "vocabulary": vocabulary.size,
        "tokenizer_ms": round(1e3 * (time.perf_counter() - begun)),
    }
    sampler = Sampler(vocabulary.size)
    noise = np.random.default_rng(0).normal(0, 1, vocabulary.size).astype(np.float32)
    plain = [_timed(sampler.choose, noise) for _ in range(200)]
    found["plain_us"] = summary(plain, digits=1)
    for name, (form, text) in TEXTS.items():
        begun = time.perf_counter()
        grammar = grammars.compile(form)
        compiled_ms = 1e3 * (time.perf_counter() - begun)
        spent = [us for _ in range(rounds) for us in _written(vocabulary, grammars, sampler, form, text, noise)]
        added = [us - statistics.median(plain) for us in spent]
        found[name] = summary(added, digits=1) | {"compile_ms": round(compiled_ms, 1), "least": grammar.least_tokens}
    found["mask_us"] = _masks(vocabulary, grammars)
    return found


def _written(
    vocabulary: Vocabulary, grammars: Grammars, sampler: Sampler, form: Form, text: str, noise: np.ndarray
) -> list[float]:
    """The times of all choices of one answer."""
    following, spent = Following(grammars.compile(form), grammars, sampler, marks=()), []
    for token in vocabulary.encode(text):
        scores = noise.copy()
        scores[token] = 99
        begun_ns = time.perf_counter_ns()
        chosen = following.choose(scores, left=400, has_time=lambda steps: True)
        spent.append((time.perf_counter_ns() - begun_ns) / 1e3)
        assert chosen == token, (text, vocabulary.bytes_of(chosen), vocabulary.bytes_of(token))
    return spent


def _timed(call: Callable[..., object], *arguments: object) -> float:
    begun_ns = time.perf_counter_ns()
    call(*arguments)
    return (time.perf_counter_ns() - begun_ns) / 1e3


def _masks(vocabulary: Vocabulary, grammars: Grammars) -> dict[str, object]:
    """Microseconds to fill the mask of the schema and to take a token, along the text: ours and installed peers'."""
    form, text = TEXTS["schema"]
    tokens = vocabulary.encode(text)
    grammar = grammars.compile(form)

    def steps() -> Callable[[int], object]:
        matcher = grammar.matcher.deep_copy()
        return lambda token: (matcher.compute_bitmask(), matcher.consume_token(token))

    found: dict[str, object] = {"llguidance": _along(tokens, steps)}
    if importlib.util.find_spec("xgrammar") is not None:
        found["xgrammar"] = _xgrammar(vocabulary, tokens)
    if importlib.util.find_spec("outlines_core") is not None:
        found["outlines_core"] = _outlines_core(vocabulary, tokens)
    return found


def _along(tokens: Sequence[int], steps: Callable[[], Callable[[int], object]]) -> dict[str, float | int]:
    """The time of a step, over ten answers; `steps` begins one."""
    answers = (steps() for _ in range(10))
    return summary([_timed(step, token) for step in answers for token in tokens], digits=1)


def _xgrammar(vocabulary: Vocabulary, tokens: Sequence[int]) -> dict[str, object]:
    import xgrammar

    encoded = [vocabulary.bytes_of(token) for token in range(vocabulary.size)]
    stops = list(vocabulary.facts.eos_token_ids)
    begun = time.perf_counter()
    info = xgrammar.TokenizerInfo(encoded, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=stops)
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)
    compiled = compiler.compile_json_schema(json.dumps(ITEM), any_whitespace=False, separators=(", ", ": "))
    compile_ms = 1e3 * (time.perf_counter() - begun)
    bitmask = xgrammar.allocate_token_bitmask(1, vocabulary.size)

    def steps() -> Callable[[int], object]:
        matcher = xgrammar.GrammarMatcher(compiled)
        return lambda token: (matcher.fill_next_token_bitmask(bitmask), matcher.accept_token(token))

    return _along(tokens, steps) | {"compile_ms": round(compile_ms, 1)}


def _outlines_core(vocabulary: Vocabulary, tokens: Sequence[int]) -> dict[str, object]:
    import outlines_core
    from outlines_core.json_schema import build_regex_from_schema

    by_bytes: dict[bytes, list[int]] = {}
    for token in range(vocabulary.size):
        if vocabulary.bytes_of(token):
            by_bytes.setdefault(vocabulary.bytes_of(token), []).append(token)
    begun = time.perf_counter()
    regex = build_regex_from_schema(json.dumps(ITEM))
    index = outlines_core.Index(regex, outlines_core.Vocabulary(vocabulary.facts.eos_token_ids[0], by_bytes))
    compile_ms = 1e3 * (time.perf_counter() - begun)
    return _along(tokens, lambda: outlines_core.Guide(index).advance) | {"compile_ms": round(compile_ms, 1)}


def accuracy(session: phiedge.Session, per_task: int) -> dict[str, object]:
    """By task, the share of right answers with its form and without, and the share of answers that are the same."""
    found: dict[str, dict[str, list[bool]]] = {}
    for picture, question in held_out(per_task):
        tallies = found.setdefault(question.task, {"free": [], "formed": [], "same": []})
        free = session.generate(question.prompt, [picture], max_new_tokens=160)
        formed = session.generate(question.prompt, [picture], max_new_tokens=160, form=TASK_FORMS[question.task])
        tallies["free"].append(question.accepts(free.answer))
        tallies["formed"].append(question.accepts(formed.answer))
        tallies["same"].append(free.answer == formed.answer)
    return {
        task: {name: round(statistics.mean(values), 4) for name, values in tallies.items()}
        for task, tallies in found.items()
    }


def deadlines(session: phiedge.Session, per_task: int) -> dict[str, object]:
    """By deadline, as a share of the usual time: how many answers have the form, and are right, and were late."""
    cases = [(picture, question) for picture, question in held_out(per_task) if question.task == "click"]
    usual_ms = statistics.median(
        session.generate(question.prompt, [picture], think="off", form=BoxForm()).timings_ms.total
        for picture, question in cases
    )
    found: dict[str, object] = {"usual_ms": round(usual_ms, 1)}
    least = session.compile(BoxForm())
    for share in SHARES:
        budget = phiedge.Budget(deadline_ms=share * usual_ms, answer_tokens=least, on_infeasible="attempt")
        found[f"{share:g}"] = {
            name: _kept(session, cases, budget, form) for name, form in (("free", None), ("formed", BoxForm()))
        }
    return found


def _kept(
    session: phiedge.Session, cases: Sequence[tuple[object, Question]], budget: phiedge.Budget, form: Form | None
) -> dict[str, float]:
    answered, parses, by_force, right, overruns = 0, 0, 0, 0, [0.0]
    for picture, question in cases:
        try:
            result = session.generate(question.prompt, [picture], think="off", form=form, budget=budget)
        except BudgetError:
            continue
        answered += 1
        parses += _parses(result.answer)
        by_force += bool(result.made_up)
        right += question.accepts(result.answer)
        overruns.append(result.outcome.overrun_ms)
    shares = {"answered": answered, "parses": parses, "by_force": by_force, "right": right}
    return {name: round(count / len(cases), 4) for name, count in shares.items()} | {
        "overrun_ms_most": round(max(overruns), 2)
    }


def _parses(answer: str) -> bool:
    try:
        return len(json.loads(answer)) == 4
    except (ValueError, TypeError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a form of the answer costs and brings.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, help="another tokenizer.json to measure the host's time with")
    parser.add_argument("--per-task", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=20, help="how often each text is written")
    parser.add_argument("--threads", type=int, default=2)
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {"host": {"reference": host_us(options.bundle / "tokenizer.json", options.rounds)}}
    if options.tokenizer is not None:
        found["host"]["large"] = host_us(options.tokenizer, options.rounds)
    with phiedge.Session.open(options.bundle, threads=options.threads) as session:
        found["accuracy"] = accuracy(session, options.per_task)
        found["deadlines"] = deadlines(session, options.per_task)
    settings = {"per_task": options.per_task, "rounds": options.rounds, "threads": options.threads}
    publish("structured", settings, found, keep=options.keep)


if __name__ == "__main__":
    main()
