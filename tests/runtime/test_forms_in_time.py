"""Answers of a form by a deadline, over engines that take logical time: what comes back in time has the form."""

import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import BudgetError, ContextLengthError, UsageError
from phiedge.runtime import loaded_model
from phiedge.runtime.budget import Budget
from phiedge.runtime.control import Control
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, JsonForm
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import Session
from timed_engines import FILLER, PREFILL_MS, STEP_MS, LogicalClock, TimedEngine, latency_model, timed_engines

QUESTION = "Which button pays?"
ITEM = JsonForm(
    {
        "type": "object",
        "properties": {"label": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["label", "count"],
        "additionalProperties": False,
    }
)


class Speaker:
    """Makes a stand-in engine want the tokens of one answer, each at its place, also where it skips some."""

    def __init__(self, engine: TimedEngine) -> None:
        self._engine, self._step, self._prefill = engine, engine.step, engine.prefill
        self._tokens: list[int] = []
        self.prompt = 0
        engine.step, engine.prefill = self.step, self.prefill

    def say(self, tokens: list[int]) -> None:
        self._tokens = tokens

    def prefill(self, embeddings: np.ndarray, *, past: int) -> np.ndarray:
        if past == 0:
            self.prompt = len(embeddings)
        self._want(past + len(embeddings))
        return self._prefill(embeddings, past=past)

    def step(self, *, past: int) -> np.ndarray:
        self._want(past + 1)
        return self._step(past=past)

    def _want(self, length: int) -> None:
        self._engine.say(self._tokens[length - self.prompt :][:1])


class Asking:
    """A session over stand-in engines that knows exactly what everything takes."""

    def __init__(self, bundle: Bundle, engine: TimedEngine, clock: LogicalClock, latency: LatencyModel | None) -> None:
        self.engine, self.clock, self.facts = engine, clock, bundle.manifest.facts
        self.speaker = Speaker(engine)
        self.model = LoadedModel(bundle, max_context=None, threads=1, chunk_tokens=1024)
        control = Control(bundle, threads=1, clock_ns=clock, latency=latency)
        self.session = Session(bundle, self.model, load_ns=0, control=control)

    def ask(self, **options: object) -> object:
        return self.session.generate(QUESTION, **options)

    def say(self, text: str, *, before: tuple[int, ...] = ()) -> None:
        """Make the model want to say `text`, after control tokens, and to stop then."""
        self.speaker.say([*before, *self.model.tokenizer.encode(text), self.facts.eos_token_ids[0]])

    @property
    def prefill_ms(self) -> float:
        return PREFILL_MS * self.model.prompts.chat(QUESTION, images=0, think="off").text_tokens


def stalling(asking: Asking, *, at_step: int) -> Callable[[int], None]:
    """Makes the machine stand still for long before one step."""

    def stalls(past: int) -> None:
        if asking.engine.calls.count("step") == at_step:
            asking.clock.pass_ms(5000)

    return stalls


def open_asking(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, latency: LatencyModel | None) -> Asking:
    facts, clock = bundle.manifest.facts, LogicalClock()
    engines, engine = timed_engines(clock, hidden=facts.hidden_size, vocab=facts.vocab_size)
    monkeypatch.setattr(loaded_model, "open_engines", lambda *_, **__: engines)
    return Asking(bundle, engine, clock, latency)


@pytest.fixture
def asking(oracle_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    opened = open_asking(oracle_bundle, monkeypatch, latency_model(chunk_tokens=1024))
    with opened.session:
        yield opened


@pytest.fixture
def unmeasured(oracle_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    """The same on a machine without a profile."""
    opened = open_asking(oracle_bundle, monkeypatch, None)
    with opened.session:
        yield opened


def test_an_answer_keeps_to_its_form_and_brings_its_value(asking: Asking) -> None:
    asking.say('{"label": "PAY", "count": 3}')
    result = asking.ask(form=ITEM, think="off")
    assert (result.answer, result.value) == ('{"label": "PAY", "count": 3}', {"label": "PAY", "count": 3})
    assert result.finish_reason == "stop"
    assert json.loads(json.dumps(result.as_dict()))["value"] == {"label": "PAY", "count": 3}


def test_an_answer_that_can_only_end_costs_no_step_for_the_stop_token(asking: Asking) -> None:
    asking.say("[0.25, 0.5, 0.75, 1]")
    result = asking.ask(form=BoxForm(), think="off")
    assert result.value == (0.25, 0.5, 0.75, 1.0)
    assert result.token_ids[-1] not in asking.facts.eos_token_ids
    assert asking.engine.calls.count("step") == len(result.token_ids) - 1


def test_what_the_form_forces_is_computed_at_once_and_counted(asking: Asking) -> None:
    text = '{"label": "PAY", "count": 3}'
    asking.say(text)
    result = asking.ask(form=ITEM, think="off")
    steps, chunks = (asking.engine.calls.count(name) for name in ("step", "chunk"))
    assert result.answer == text
    assert chunks >= 3, "the prompt, and what stands before each value"
    assert result.tokens.forced >= 10
    assert steps < len(result.token_ids) - result.tokens.forced
    assert steps + chunks + result.tokens.forced >= len(result.token_ids)


def test_what_a_model_wants_to_say_besides_is_left_out(asking: Asking) -> None:
    asking.say("Sure! It is the green one.")
    assert asking.ask(form=ChoiceForm(["red", "green"]), think="off").value in ("red", "green")


def test_thinking_is_free_and_the_form_begins_after_it(asking: Asking) -> None:
    thought = "The price is [3]."
    marks = (asking.facts.end_think_token_id,)
    asking.speaker.say(
        [*asking.model.tokenizer.encode(thought), *marks, *asking.model.tokenizer.encode("[0, 0.5, 1, 1]")]
    )
    result = asking.ask(form=BoxForm(), think="on")
    assert (result.thinking, result.value) == (thought, (0.0, 0.5, 1.0, 1.0))


@pytest.mark.parametrize("mark", ["think_token_id", "nothink_token_id", None])
def test_the_model_may_still_choose_whether_to_think(asking: Asking, mark: str | None) -> None:
    facts = asking.facts
    opening = () if mark is None else (getattr(facts, mark),)
    closing = (facts.end_think_token_id,) if mark == "think_token_id" else ()
    asking.speaker.say([*opening, *closing, *asking.model.tokenizer.encode("[0.5, 1, 1, 1]")])
    result = asking.ask(form=BoxForm(), think="auto")
    assert result.value == (0.5, 1.0, 1.0, 1.0)
    assert result.token_ids[: len(opening)] == opening


def test_a_model_that_stops_while_it_thinks_answers_all_the_same(asking: Asking) -> None:
    asking.speaker.say([FILLER, asking.facts.eos_token_ids[0]])
    result = asking.ask(form=ChoiceForm(["red", "green"]), think="on")
    assert result.token_ids[1] == asking.facts.end_think_token_id
    assert result.value in ("red", "green")


def test_thinking_leaves_the_tokens_that_the_form_needs(asking: Asking) -> None:
    result = asking.ask(form=BoxForm(), think="on", max_new_tokens=30)
    assert len(result.token_ids) <= 30
    assert result.value is not None
    assert result.tokens.thinking >= 10


@pytest.mark.parametrize(
    "form", [ITEM, BoxForm(), ChoiceForm(["red", "green", "greenish"])], ids=lambda form: form.name
)
def test_whatever_was_promised_comes_back_in_time_and_has_its_form(asking: Asking, form: object) -> None:
    admitted = 0
    for steps in range(1, 60, 2):
        asking.say('{"label": "a very long label that goes on and on and on and on", "count": 1234567890123}')
        budget = Budget(deadline_ms=asking.prefill_ms + (steps + 0.5) * STEP_MS)
        try:
            result = asking.ask(form=form, think="off", budget=budget)
        except BudgetError:
            continue
        admitted += 1
        assert result.outcome.overrun_ms == 0
        assert result.value is not None, (steps, result.answer)
        assert form.value(result.answer) == result.value
    assert admitted > 5


@pytest.mark.parametrize("think", ["on", "auto"])
def test_thinking_by_a_deadline_leaves_time_for_the_form(asking: Asking, think: str) -> None:
    mark = (asking.facts.think_token_id,) if think == "auto" else ()
    admitted, thoughts = 0, []
    for steps in range(1, 90, 4):
        asking.speaker.say([*mark, *[FILLER] * 200])
        budget = Budget(deadline_ms=asking.prefill_ms + (steps + 0.5) * STEP_MS)
        try:
            result = asking.ask(form=ITEM, think=think, budget=budget)
        except BudgetError:
            continue
        admitted += 1
        assert result.outcome.overrun_ms == 0
        assert result.value is not None, (steps, result.answer)
        thoughts.append(result.tokens.thinking)
    assert admitted > 5
    assert thoughts == sorted(thoughts)
    assert thoughts[-1] > 20


def test_an_answer_that_ran_out_of_time_says_so_and_has_its_form(asking: Asking) -> None:
    asking.say('{"label": "' + "very " * 50)
    budget = Budget(deadline_ms=asking.prefill_ms + 60.5 * STEP_MS)
    result = asking.ask(form=ITEM, think="off", budget=budget)
    assert (result.finish_reason, result.outcome.stopped_by) == ("deadline", "clock")
    assert result.value["label"].startswith("very very")
    assert result.outcome.overrun_ms == 0


def test_the_end_of_an_answer_is_written_down_and_not_computed(asking: Asking) -> None:
    asking.say('{"label": "PAY", "count": ' + "1" * 60)
    tokens = asking.model.tokenizer.encode('{"label": "PAY", "count": 1')
    budget = Budget(deadline_ms=asking.prefill_ms + (len(tokens) + 3.5) * STEP_MS, answer_tokens=None)
    asking.model.grammars.compile(ITEM)
    result = asking.ask(form=ITEM, think="off", budget=Budget(deadline_ms=10_000), max_new_tokens=len(tokens) + 9)
    assert result.finish_reason == "length"
    assert result.value["count"] >= 11
    assert asking.engine.calls.count("step") < len(result.token_ids)
    assert budget.deadline_ms is not None


def test_a_machine_that_stalls_gives_the_form_and_tells_what_nobody_chose(asking: Asking) -> None:
    asking.engine.before_step = stalling(asking, at_step=2)
    asking.say('{"label": "PAY", "count": 3}')
    result = asking.ask(form=ITEM, think="off", budget=Budget(deadline_ms=2000))
    assert (result.finish_reason, result.value) == ("deadline", {"label": "PA", "count": 0})
    assert result.made_up == "0", "the text only had to end, and what stands before the number is forced"
    assert json.loads(json.dumps(result.as_dict()))["made_up"] == "0"


@pytest.mark.parametrize("think", ["on", "auto"])
def test_a_machine_that_stalls_in_the_thinking_gives_the_form_and_no_value(asking: Asking, think: str) -> None:
    facts = asking.facts
    asking.engine.before_step = stalling(asking, at_step=5)
    mark = (facts.think_token_id,) if think == "auto" else ()
    asking.speaker.say([*mark, *[FILLER] * 200])
    result = asking.ask(form=ITEM, think=think, budget=Budget(deadline_ms=2000))
    assert (result.finish_reason, result.value) == ("deadline", None)
    assert result.answer == result.made_up == '{"label": "", "count": 0}'
    assert facts.end_think_token_id in result.token_ids
    assert result.tokens.thinking > 0


def test_a_deadline_within_the_prompt_gives_the_form_and_no_value(asking: Asking) -> None:
    asking.engine.before_chunk = lambda: asking.clock.pass_ms(5000)
    result = asking.ask(form=ITEM, think="off", budget=Budget(deadline_ms=2000))
    assert (result.finish_reason, result.value) == ("deadline", None)
    assert json.loads(result.answer) == {"label": "", "count": 0}
    asking.engine.before_chunk = lambda: None
    asking.say('{"label": "PAY", "count": 3}')
    assert asking.ask(form=ITEM, think="off").value == {"label": "PAY", "count": 3}, "and the session goes on"


@pytest.mark.parametrize("form", [ITEM, BoxForm(), ChoiceForm(["red", "green"])], ids=lambda form: form.name)
def test_an_answer_has_its_form_whatever_the_clock_does(unmeasured: Asking, form: object) -> None:
    """No profile, and steps that take from a tenth to forty times of what they take usually."""
    draw, said = np.random.default_rng(0), 0
    asking = unmeasured
    asking.engine.before_step = lambda past: asking.clock.pass_ms(STEP_MS * float(draw.choice([0.1, 1, 2, 40])))
    for steps in range(20, 800, 30):
        think = str(draw.choice(["on", "off"]))
        asking.speaker.say([FILLER] * 20 if think == "on" else asking.model.tokenizer.encode('{"label": "PAY"'))
        budget = Budget(deadline_ms=asking.prefill_ms + (steps + 0.5) * STEP_MS)
        result = asking.ask(form=form, think=think, budget=budget)
        assert form.value(result.answer) is not None
        assert (result.value is None) == (result.made_up == result.answer)
        assert result.value in (None, form.value(result.answer))
        said += result.value is not None
    assert said > 5


def test_a_machine_that_stalls_where_nothing_is_left_to_say_ends_the_answer(asking: Asking) -> None:
    text = '{"label": "PAY", "count": 3'
    count = len(asking.model.tokenizer.encode(text))

    def stalls(past: int) -> None:
        if past + 1 == asking.speaker.prompt + count:
            asking.clock.pass_ms(5000)

    asking.engine.before_step = stalls
    asking.say(text + "456}")
    result = asking.ask(form=ITEM, think="off", budget=Budget(deadline_ms=2000))
    assert result.finish_reason == "deadline"
    assert result.value["label"] == "PAY"
    assert str(result.value["count"]).startswith("3")


def test_the_reserve_covers_the_shortest_answer(asking: Asking) -> None:
    form = JsonForm({"type": "array", "minItems": 30, "items": {"type": "integer"}})
    least = asking.model.grammars.compile(form).least_tokens
    assert least > 32
    result = asking.ask(form=form, think="on", budget=Budget(deadline_ms=asking.prefill_ms + (least + 9) * STEP_MS))
    assert result.plan.answer_tokens == least
    assert len(result.value) >= 30
    with pytest.raises(UsageError, match=f"answer_tokens 8 are kept for an answer of at least {least}"):
        asking.ask(form=form, budget=Budget(deadline_ms=9000, answer_tokens=8))
    with pytest.raises(BudgetError, match="deadline_ms"):
        asking.ask(form=form, think="off", budget=Budget(deadline_ms=asking.prefill_ms + (least - 5) * STEP_MS))


def test_a_form_that_does_not_fit_is_refused_before_anything_is_computed(asking: Asking) -> None:
    with pytest.raises(UsageError, match="max_new_tokens is 5"):
        asking.ask(form=BoxForm(), max_new_tokens=5)
    long = ChoiceForm(["A long way. " * 200 + "End."])
    with pytest.raises(ContextLengthError, match="the context leaves"):
        asking.ask(form=long, think="off", max_new_tokens=4000)
    assert asking.engine.calls == []


def test_a_cancelled_answer_has_no_value(asking: Asking) -> None:
    asking.say('{"label": "PAY", "count": 3}')
    events = asking.session.stream(QUESTION, form=ITEM, think="off")
    next(events)
    asking.session.cancel()
    *_, done = events
    assert (done.result.finish_reason, done.result.value) == ("cancelled", None)


def test_a_stream_gives_the_end_that_was_written_down(asking: Asking) -> None:
    asking.say('{"label": "' + "very " * 50)
    events = list(asking.session.stream(QUESTION, form=ITEM, think="off", max_new_tokens=40))
    result = events[-1].result
    assert "".join(event.text for event in events) == result.answer
    assert [event.token_id for event in events[:-1]] == list(result.token_ids)
    assert json.loads(result.answer) == result.value


def test_a_raw_prompt_can_have_a_form(asking: Asking) -> None:
    raw = "<|im_start|>user<|im_sep|>Where?<|im_end|><|im_start|>assistant<|im_sep|><|dummy_84|>"
    asking.speaker.say(asking.model.tokenizer.encode("[0, 1, 0, 1]"))
    result = asking.session.generate(raw, raw=True, form=BoxForm())
    assert result.value == (0.0, 1.0, 0.0, 1.0)


def make_later(asking: Asking, ms: float) -> Callable[[int], None]:
    return lambda past: asking.clock.pass_ms(ms)


def test_slow_tokens_make_the_end_come_earlier(asking: Asking) -> None:
    budget = Budget(deadline_ms=asking.prefill_ms + 80 * STEP_MS)
    asking.say('{"label": "' + "very " * 90)
    quick = asking.ask(form=ITEM, think="off", budget=budget)
    asking.engine.before_step = make_later(asking, STEP_MS)
    asking.say('{"label": "' + "very " * 90)
    slow = asking.ask(form=ITEM, think="off", budget=budget)
    assert quick.value is not None
    assert slow.value is not None
    assert len(slow.answer) < len(quick.answer)
    assert slow.outcome.overrun_ms == 0
