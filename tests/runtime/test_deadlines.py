"""Requests with a budget, over engines that take logical time: what is decided and when it ends, without waiting."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import BudgetError, UsageError
from phiedge.runtime import loaded_model
from phiedge.runtime.budget import Budget
from phiedge.runtime.control import Control
from phiedge.runtime.drift import PATIENCE
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import Session
from phiedge.runtime.thoughts import KNOWN
from timed_engines import FILLER, MS, PREFILL_MS, STEP_MS, LogicalClock, TimedEngine, latency_model, timed_engines

PICTURE = np.zeros((320, 320, 3), dtype=np.uint8)  # 400 patches, the fewest are 256
QUESTION = "Which button pays?"


@dataclass
class Opened:
    """A session over stand-in engines, and the clock that they move on."""

    session: Session
    engine: TimedEngine
    clock: LogicalClock
    end_think: int
    stop: int

    def ask(self, *, images: int = 0, **options: object) -> object:
        return self.session.generate(QUESTION, [PICTURE] * images, **options)

    @property
    def rows(self) -> int:
        """The tokens of the question's prompt, when it is told to think or not to."""
        return self.session._model.prompts.chat(QUESTION, images=0, think="off").text_tokens


@pytest.fixture
def opened(oracle_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Opened]]:
    sessions = []

    def opening(
        *,
        latency: LatencyModel | None,
        budget: Budget | None = None,
        chunk_tokens: int = 1024,
        clock_ns: Callable[[], int] | None = None,
    ) -> Opened:
        facts, clock = oracle_bundle.manifest.facts, LogicalClock()
        engines, engine = timed_engines(clock, hidden=facts.hidden_size, vocab=facts.vocab_size)
        monkeypatch.setattr(loaded_model, "open_engines", lambda *_, **__: engines)
        model = LoadedModel(oracle_bundle, max_context=None, threads=1, chunk_tokens=chunk_tokens)
        control = Control(oracle_bundle, threads=1, clock_ns=clock_ns or clock, latency=latency)
        session = Session(oracle_bundle, model, load_ns=0, budget=budget, control=control)
        sessions.append(session)
        return Opened(session, engine, clock, facts.end_think_token_id, facts.eos_token_ids[0])

    yield opening
    for session in sessions:
        session.close()


@pytest.fixture
def known(opened: Callable[..., Opened]) -> Opened:
    """A session that knows exactly what everything takes."""
    return opened(latency=latency_model(chunk_tokens=1024))


def test_an_answer_ends_before_the_token_that_would_be_late(known: Opened) -> None:
    prefill_ms = PREFILL_MS * known.rows
    result = known.ask(think="off", budget=Budget(deadline_ms=prefill_ms + 7.5 * STEP_MS, answer_tokens=4))
    assert result.finish_reason == "deadline"
    assert len(result.token_ids) == 8, "one after the prompt, and seven steps"
    assert (result.outcome.overrun_ms, result.outcome.stopped_by) == (0, "clock")
    assert result.outcome.slack_ms == pytest.approx(0.5 * STEP_MS)
    assert result.timings_ms.total == pytest.approx(prefill_ms + 7 * STEP_MS)


def test_an_answer_that_is_done_before_its_deadline_is_not_touched(known: Opened) -> None:
    known.engine.say([FILLER, FILLER, known.stop])
    result = known.ask(think="off", budget=Budget(deadline_ms=10_000))
    assert (result.finish_reason, len(result.token_ids)) == ("stop", 3)
    assert (result.outcome.promised, result.outcome.stopped_by, result.outcome.thinking_closed) == (True, None, None)
    assert result.outcome.slowest_token_ms == STEP_MS


def test_thinking_is_closed_when_only_the_room_for_the_answer_is_left(known: Opened) -> None:
    budget = Budget(deadline_ms=PREFILL_MS * known.rows + 20 * STEP_MS, answer_tokens=6)
    result = known.ask(think="on", budget=budget)
    place = result.token_ids.index(known.end_think)
    assert result.outcome.thinking_closed == "time"
    assert (result.tokens.thinking, result.tokens.answer) == (place, len(result.token_ids) - place - 1)
    assert result.tokens.answer >= 6
    assert result.plan.thinking_tokens <= place <= result.plan.thinking_tokens + 2
    assert result.outcome.overrun_ms == 0


def test_a_closing_text_stands_before_the_mark(known: Opened) -> None:
    budget = Budget(think_tokens=3, closing_text="Time is up.")
    closing = known.session._model.tokenizer.encode("Time is up.")
    known.engine.say([FILLER] * (4 + len(closing)) + [FILLER, known.stop])
    result = known.ask(think="on", budget=budget)
    assert list(result.token_ids[3 : 4 + len(closing)]) == [*closing, known.end_think]
    assert (result.outcome.thinking_closed, result.finish_reason) == ("tokens", "stop")
    assert result.thinking.endswith("Time is up.")


def test_a_closing_text_with_a_control_token_is_refused(known: Opened) -> None:
    with pytest.raises(UsageError, match="closing_text"):
        known.ask(budget=Budget(deadline_ms=10_000, closing_text="<|im_end|>"))


def test_a_limit_on_the_time_of_thinking_closes_it(known: Opened) -> None:
    known.engine.say([FILLER] * 6 + [known.stop])
    result = known.ask(think="on", budget=Budget(think_ms=2.5 * STEP_MS))
    assert (result.tokens.thinking, result.outcome.thinking_closed) == (3, "time")
    assert (result.outcome.slack_ms, result.outcome.overrun_ms) == (None, None)


def test_the_end_of_thinking_is_put_off_until_enough_was_thought(known: Opened) -> None:
    wait = known.session._model.tokenizer.encode("Wait")
    known.engine.say([FILLER, known.end_think, *[FILLER] * (len(wait) + 4), known.end_think, FILLER, known.stop])
    result = known.ask(think="on", budget=Budget(think_tokens=40, min_think_tokens=5))
    assert list(result.token_ids[1 : 1 + len(wait)]) == wait
    assert result.tokens.thinking >= 5
    assert result.outcome.thinking_closed is None


def test_what_cannot_be_met_is_refused_before_anything_is_computed(known: Opened) -> None:
    with pytest.raises(BudgetError, match="deadline_ms 50 needs") as refused:
        known.ask(images=1, think="off", budget=Budget(deadline_ms=50, answer_tokens=4))
    assert known.engine.calls == []
    assert "400 visual tokens 40.0" in refused.value.message
    nearest = float(re.search(r"give deadline_ms=(\d+)", refused.value.remedy)[1])
    known.ask(images=1, think="off", budget=Budget(deadline_ms=nearest, answer_tokens=4))


def test_the_least_that_a_refusal_names_is_admitted_when_degraded(known: Opened) -> None:
    with pytest.raises(BudgetError) as refused:
        known.ask(images=1, budget=Budget(deadline_ms=50, answer_tokens=4))
    least = float(re.search(r"can be met is deadline_ms=(\d+)", refused.value.remedy)[1])
    result = known.ask(images=1, budget=Budget(deadline_ms=least, answer_tokens=4, on_infeasible="degrade"))
    assert result.plan.given_up == ("thinking", "visual")


def test_a_picture_is_seen_smaller_where_that_is_allowed(known: Opened) -> None:
    whole = known.ask(images=1, think="off", max_new_tokens=1)
    needed_ms = whole.timings_ms.total + 4 * STEP_MS
    budget = Budget(deadline_ms=needed_ms - 30, answer_tokens=4, on_infeasible="degrade")
    result = known.ask(images=1, think="off", budget=budget)
    assert result.plan.given_up == ("visual",)
    assert 256 <= result.tokens.visual == sum(result.plan.visual_tokens) < 400 == sum(result.plan.asked_visual_tokens)
    assert result.plan.forecast.total <= budget.deadline_ms
    assert result.tokens.visual >= 320, "as little is given up as will do"


def test_a_picture_is_not_seen_smaller_than_its_floor(known: Opened) -> None:
    whole = known.ask(images=1, think="off", max_new_tokens=1)
    tight = whole.timings_ms.total + 4 * STEP_MS - 30
    with pytest.raises(BudgetError, match="deadline_ms"):
        known.ask(
            images=1,
            think="off",
            budget=Budget(deadline_ms=tight, answer_tokens=4, on_infeasible="degrade", min_visual_tokens=395),
        )


def test_thinking_is_given_up_first_where_that_comes_first(known: Opened) -> None:
    whole = known.ask(images=1, think="off", max_new_tokens=1)
    tight = whole.timings_ms.total + 4 * STEP_MS + 1
    budget = Budget(
        deadline_ms=tight, answer_tokens=4, on_infeasible="degrade", sacrifices=("thinking", "visual"),
        min_think_tokens=3,
    )  # fmt: skip
    result = known.ask(images=1, think="on", budget=budget)
    assert (result.plan.given_up, result.plan.think, result.tokens.thinking) == (("thinking",), "off", 0)
    assert result.tokens.visual == 400


def test_a_late_first_token_is_refused_when_it_can_be_told(known: Opened) -> None:
    with pytest.raises(BudgetError, match="ttft_ms 10 needs"):
        known.ask(budget=Budget(ttft_ms=10))
    with pytest.raises(BudgetError, match="token_ms 9 needs 10.0 ms"):
        known.ask(budget=Budget(token_ms=9))


def test_the_promise_counts_what_is_seldom_exceeded(opened: Callable[..., Opened]) -> None:
    usual = opened(latency=latency_model(chunk_tokens=1024))
    seldom = opened(latency=latency_model(chunk_tokens=1024, excess=1.0))
    budget = Budget(deadline_ms=PREFILL_MS * usual.rows + 6 * STEP_MS, answer_tokens=5)
    assert usual.ask(think="off", budget=budget).plan.forecast.total <= budget.deadline_ms
    with pytest.raises(BudgetError):
        seldom.ask(think="off", budget=budget)


def test_a_prompt_that_cannot_be_done_in_time_any_more_is_left(opened: Callable[..., Opened]) -> None:
    slow = opened(latency=latency_model(chunk_tokens=16), chunk_tokens=16)
    budget = Budget(deadline_ms=PREFILL_MS * slow.rows + 3 * STEP_MS, answer_tokens=1)
    original = slow.engine.prefill

    def prefill(embeddings: object, *, past: int) -> object:
        slow.clock.pass_ms(budget.deadline_ms / 2)
        return original(embeddings, past=past)

    slow.engine.prefill = prefill
    result = slow.ask(think="off", budget=budget)
    assert (result.finish_reason, result.token_ids, result.timings_ms.first_token) == ("deadline", (), None)
    assert len(slow.engine.calls) < slow.rows / 16
    assert result.outcome.ttft_overrun_ms is None


def test_a_process_that_was_stopped_for_seconds_says_so(known: Opened) -> None:
    def stopped_at_third(past: int) -> None:
        if known.engine.calls.count("step") == 3:
            known.clock.pass_ms(2000)

    known.engine.before_step = stopped_at_third
    result = known.ask(think="off", budget=Budget(deadline_ms=1000, answer_tokens=4))
    assert (result.finish_reason, len(result.token_ids)) == ("deadline", 4)
    assert result.outcome.overrun_ms > 1000
    known.engine.before_step = lambda past: None
    assert known.ask(think="off", budget=Budget(deadline_ms=1000, answer_tokens=4)).outcome.overrun_ms == 0


def test_slow_tokens_make_the_rest_of_the_answer_start_earlier(known: Opened) -> None:
    budget = Budget(deadline_ms=PREFILL_MS * known.rows + 60 * STEP_MS, answer_tokens=10)
    quick = known.ask(think="on", budget=budget)
    known.engine.before_step = lambda past: known.clock.pass_ms(STEP_MS)
    slow = known.ask(think="on", budget=budget)
    assert slow.outcome.thinking_closed == quick.outcome.thinking_closed == "time"
    assert slow.tokens.thinking < quick.tokens.thinking / 2
    assert slow.tokens.answer >= 8


def test_a_machine_that_became_slow_refuses_what_it_cannot_do_now_and_tries_again_later(known: Opened) -> None:
    budget = Budget(deadline_ms=PREFILL_MS * known.rows + 8 * STEP_MS, answer_tokens=6)
    known.engine.before_chunk = lambda: known.clock.pass_ms(4 * PREFILL_MS * known.rows)
    generous = Budget(deadline_ms=20 * budget.deadline_ms, answer_tokens=6)
    for _ in range(12):
        result = known.ask(think="off", max_new_tokens=6, budget=generous)
    assert result.plan.forecast.slowdown == pytest.approx(result.timings_ms.total / _usual_ms(known), rel=0.1)
    known.engine.before_chunk = lambda: None
    with pytest.raises(BudgetError, match="times the profile lately"):
        known.ask(think="off", budget=budget)
    refusals = 0
    while refusals < 60 and _is_refused(known, budget):
        refusals += 1
    assert PATIENCE <= refusals + 1 < 60, "what was slow once is believed for a while, and not for ever"


def test_a_forecast_of_what_is_usual_goes_by_the_last_requests_both_ways(known: Opened) -> None:
    budget = Budget(deadline_ms=100_000, answer_tokens=6)
    engines_ms = PREFILL_MS * known.rows + 6 * STEP_MS
    for each_ms, times in ((STEP_MS, 2.0), (0.0, 1.0), (-STEP_MS / 2, 0.5)):
        known.engine.before_step = lambda past, ms=each_ms: known.clock.pass_ms(ms)
        known.engine.before_chunk = lambda k=times: known.clock.pass_ms((k - 1) * PREFILL_MS * known.rows)
        for _ in range(24):
            forecast = known.ask(think="off", max_new_tokens=7, budget=budget).plan.forecast
        assert forecast.usual_total == pytest.approx(times * engines_ms, rel=0.05)
        assert forecast.slowdown == pytest.approx(max(1.0, times), rel=0.05)


def _usual_ms(opened: Opened) -> float:
    """Of six tokens."""
    return PREFILL_MS * opened.rows + 5 * STEP_MS


def _is_refused(opened: Opened, budget: Budget) -> bool:
    try:
        opened.ask(think="off", budget=budget)
    except BudgetError:
        return True
    return False


def test_without_a_profile_a_deadline_is_kept_and_nothing_is_promised(opened: Callable[..., Opened]) -> None:
    unknown = opened(latency=None)
    budget = Budget(deadline_ms=PREFILL_MS * unknown.rows + 20 * STEP_MS, answer_tokens=6)
    result = unknown.ask(think="on", budget=budget)
    assert (result.finish_reason, result.outcome.promised, result.outcome.overrun_ms) == ("deadline", False, 0)
    assert result.plan.unpromised == "the bundle has no latency profile of this machine"
    assert result.tokens.answer >= 5
    assert any(line.startswith("promises nothing") for line in result.plan.explain())


def test_without_a_profile_nothing_can_be_chosen_to_give_up(opened: Callable[..., Opened]) -> None:
    with pytest.raises(BudgetError, match="no latency profile") as refused:
        opened(latency=None).ask(budget=Budget(deadline_ms=1000, on_infeasible="degrade"))
    assert "phiedge profile" in refused.value.remedy


def test_a_budget_of_the_session_holds_unless_the_call_brings_its_own(opened: Callable[..., Opened]) -> None:
    budget = Budget(deadline_ms=500, answer_tokens=4)
    session = opened(latency=latency_model(chunk_tokens=1024), budget=budget)
    assert session.ask(think="off").budget is budget
    own = Budget(deadline_ms=400, answer_tokens=4)
    assert session.ask(think="off", budget=own).budget is own
    assert session.ask(think="off", budget=own).as_dict()["budget"]["deadline_ms"] == 400


def test_a_request_without_a_budget_has_no_plan(known: Opened) -> None:
    result = known.ask(max_new_tokens=3)
    assert (result.budget, result.plan, result.outcome) == (None, None, None)


def test_a_cancelled_request_is_not_called_late(known: Opened) -> None:
    stream = known.session.stream(QUESTION, think="off", budget=Budget(deadline_ms=10_000))
    next(stream)
    known.session.cancel()
    result = list(stream)[-1].result
    assert result.finish_reason == "cancelled"
    assert result.outcome.stopped_by is None


def test_a_step_that_hangs_is_ended_and_the_session_answers_again(opened: Callable[..., Opened]) -> None:
    hung = opened(latency=None, clock_ns=time.perf_counter_ns)
    ended = threading.Event()
    original = hung.engine.stop

    def stop() -> None:
        original()
        ended.set()

    hung.engine.stop = stop
    hung.engine.before_step = lambda past: ended.wait(30)
    result = hung.ask(think="off", budget=Budget(deadline_ms=50))
    assert (result.finish_reason, result.outcome.stopped_by) == ("deadline", "watchdog")
    assert len(result.token_ids) == 1
    hung.engine.before_step = lambda past: None
    assert hung.ask(think="off", max_new_tokens=4).finish_reason == "length"


def test_thinking_with_less_room_than_the_answer_is_given_up_where_that_is_allowed(known: Opened) -> None:
    budget = Budget(deadline_ms=PREFILL_MS * known.rows + 9 * STEP_MS, answer_tokens=6)
    closed = known.ask(think="on", budget=budget)
    assert closed.plan.thinking_tokens < 6
    assert closed.outcome.thinking_closed == "time"
    given_up = known.ask(think="on", budget=replace(budget, on_infeasible="degrade"))
    assert (given_up.plan.given_up, given_up.tokens.thinking) == (("thinking",), 0)
    kept = known.ask(think="on", budget=replace(budget, on_infeasible="degrade", sacrifices=("visual",)))
    assert kept.plan.given_up == ()


def test_a_thinking_that_would_most_likely_be_cut_is_given_up_where_that_is_allowed(known: Opened) -> None:
    for _ in range(KNOWN):
        known.engine.say([FILLER] * 12 + [known.end_think, FILLER, known.stop])
        assert known.ask(think="on").tokens.thinking == 12
    budget = Budget(deadline_ms=PREFILL_MS * known.rows + 14 * STEP_MS, answer_tokens=4, on_infeasible="degrade")
    hurried = known.ask(think="on", budget=budget)
    assert (hurried.plan.given_up, hurried.tokens.thinking) == (("thinking",), 0)
    known.engine.say([FILLER] * 12 + [known.end_think, FILLER, known.stop])
    unhurried = known.ask(think="on", budget=replace(budget, deadline_ms=budget.deadline_ms + 10 * STEP_MS))
    assert (unhurried.plan.given_up, unhurried.outcome.thinking_closed) == ((), None)


def test_an_attempt_goes_by_how_the_machine_is_now(known: Opened) -> None:
    budget = Budget(deadline_ms=100_000, answer_tokens=4)
    known.engine.before_chunk = lambda: known.clock.pass_ms(-PREFILL_MS * known.rows / 2)
    known.engine.before_step = lambda past: known.clock.pass_ms(-STEP_MS / 2)
    for _ in range(24):
        known.ask(think="off", max_new_tokens=4, budget=budget)
    known.engine.say([FILLER] * 3 + [known.stop])
    tight = Budget(deadline_ms=PREFILL_MS * known.rows + 2 * STEP_MS, answer_tokens=4, on_infeasible="attempt")
    result = known.ask(think="on", budget=tight)
    assert (result.plan.given_up, result.outcome.promised) == (("thinking",), False)
    assert (result.finish_reason, result.tokens.answer) == ("stop", 3)


def test_what_has_time_only_for_a_beginning_of_the_answer_keeps_as_much_of_the_picture_as_that_allows(
    known: Opened,
) -> None:
    first_ms = known.ask(images=1, think="off", max_new_tokens=1).timings_ms.total
    budget = Budget(deadline_ms=first_ms + 1.5 * STEP_MS, answer_tokens=40, on_infeasible="attempt")
    result = known.ask(images=1, think="off", budget=budget)
    assert (result.plan.given_up, result.tokens.visual) == ((), 400)
    assert result.tokens.answer >= 1


def test_what_cannot_be_promised_is_attempted_where_that_is_asked_for(opened: Callable[..., Opened]) -> None:
    seldom = opened(latency=latency_model(chunk_tokens=1024, excess=1.0))
    budget = Budget(deadline_ms=PREFILL_MS * seldom.rows + 7 * STEP_MS, answer_tokens=5, on_infeasible="attempt")
    with pytest.raises(BudgetError):
        seldom.ask(think="off", budget=replace(budget, on_infeasible="degrade"))
    result = seldom.ask(think="off", max_new_tokens=5, budget=budget)
    assert (result.finish_reason, result.outcome.promised, result.plan.given_up) == ("length", False, ())
    assert result.plan.unpromised.startswith("the budget cannot be met: deadline_ms ")
    assert any(line.startswith("promises nothing: the budget cannot be met") for line in result.plan.explain())


def test_an_attempt_gives_up_all_it_may_where_even_the_usual_does_not_fit(known: Opened) -> None:
    result = known.ask(images=1, think="on", budget=Budget(deadline_ms=50, answer_tokens=4, on_infeasible="attempt"))
    assert (result.plan.given_up, result.finish_reason) == (("thinking", "visual"), "deadline")
    assert result.outcome.overrun_ms == 0


def test_an_attempt_without_a_profile_is_made_as_it_was_asked(opened: Callable[..., Opened]) -> None:
    budget = Budget(deadline_ms=10_000, answer_tokens=4, on_infeasible="attempt")
    result = opened(latency=None).ask(think="off", max_new_tokens=3, budget=budget)
    assert (result.finish_reason, result.outcome.promised, result.plan.given_up) == ("length", False, ())


def test_the_watchdog_is_early_by_what_an_engine_takes_to_stop(opened: Callable[..., Opened]) -> None:
    slow = opened(latency=replace(latency_model(chunk_tokens=1024), abort_usual_ms=30.0))
    armed = []
    slow.session._control.watchdog.arm = lambda due_ns, stop: armed.append(due_ns - slow.clock.now_ns)
    slow.ask(think="off", max_new_tokens=2, budget=Budget(deadline_ms=1000, answer_tokens=2))
    assert armed == [970 * MS]


def test_a_prompt_is_computed_in_the_chunks_that_its_plan_names(opened: Callable[..., Opened]) -> None:
    free = opened(latency=latency_model(chunk_tokens=16), chunk_tokens=16)
    result = free.ask(think="off", max_new_tokens=1, budget=Budget(deadline_ms=100_000))
    assert result.plan.chunk_tokens == 2, "as chunks cost nothing here, they are as small as they may be"
    assert free.engine.calls.count("chunk") == -(-free.rows // 2)


def test_a_request_that_was_ended_in_its_prompt_makes_the_next_ones_careful(known: Opened) -> None:
    budget = Budget(deadline_ms=PREFILL_MS * known.rows + 8 * STEP_MS, answer_tokens=6)
    known.engine.before_chunk = lambda: known.clock.pass_ms(1000)
    for _ in range(5):
        assert known.ask(think="off", budget=budget).outcome.overrun_ms > 0
    with pytest.raises(BudgetError, match="times the profile lately"):
        known.ask(think="off", budget=budget)


def test_the_plan_says_what_it_is(known: Opened) -> None:
    result = known.ask(images=1, think="on", budget=Budget(deadline_ms=2000, answer_tokens=4))
    told = result.plan.explain()
    assert told[0].endswith("and 400 visual tokens")
    assert told[1] == f"may think at most {result.plan.thinking_tokens} tokens"
    assert told[2] == "keeps room for 4 tokens of the answer"
    assert told[3].startswith(f"first token after {result.plan.forecast.first_token:.1f} ms")
    assert result.as_dict()["plan"]["forecast"]["quantile"] == 0.99
