"""One request that is being answered: from the first chunk of its prompt to its result, token by token."""

from collections.abc import Callable, Generator, Iterator

from phiedge.engines.interface import RunStoppedError
from phiedge.errors import SessionError
from phiedge.runtime.choosing import Choosing
from phiedge.runtime.control import Control
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import PictureRows
from phiedge.runtime.preparing import prepare
from phiedge.runtime.request import Request
from phiedge.runtime.result import Event, FinishReason, Result, TokenCounts
from phiedge.runtime.sampling import Logits, Sampler
from phiedge.runtime.stopwatch import Stopwatch
from phiedge.runtime.transcript import Transcript


class Answering:
    """The run of one request; making it accepts or refuses the request, `events` computes.

    The clock is read before every picture, chunk and step, and what would end late is not begun. `cancelled` tells
    whether somebody wants it to end.
    """

    def __init__(
        self,
        model: LoadedModel,
        request: Request,
        *,
        sampler: Sampler,
        control: Control,
        cancelled: Callable[[], bool],
        load_ns: int,
        precision: str,
    ) -> None:
        self._model, self._request, self._control, self._cancelled = model, request, control, cancelled
        self._load_ns, self._precision = load_ns, precision
        self._watch = Stopwatch(control.clock_ns)
        self._prepared = prepare(model, request, self._watch, room=1, control=control, reuse=True)
        self._keeper = self._prepared.keeper
        self._transcript = Transcript(
            model.tokenizer,
            model.facts,
            capacity=min(request.max_new_tokens, model.context - self._prepared.plan.length),
            starts_thinking=self._prepared.prompt.starts_thinking,
        )
        sampler.start(request.sampling)
        self._choosing = Choosing(
            model, request, self._prepared.prompt, sampler=sampler, keeper=self._keeper, transcript=self._transcript
        )

    def events(self) -> Iterator[Event]:
        """An event for every token, and the last one with the result."""
        finish: FinishReason = "cancelled"
        if self._keeper.watch_ns is not None:
            self._control.watchdog.arm(self._keeper.watch_ns, self._model.stop)
        try:
            finish = yield from self._tokens()
        except SessionError:
            self._model.forget()  # rows of which one is no number
            raise
        except RunStoppedError:
            finish = "deadline" if self._stopped_by_watchdog and not self._cancelled() else "cancelled"
        finally:
            self._control.watchdog.disarm()
        for token in self._choosing.tail(finish):
            yield self._transcript.add(token)
        rest = self._transcript.end()
        if rest is not None:
            yield rest
        self._learn()
        ended_ns = self._control.clock_ns()
        result = self._result(finish)
        self._control.wrapped_up(self._control.clock_ns() - ended_ns)
        yield Event(kind="done", result=result)

    def _learn(self) -> None:
        """How long the model thought, where the thinking came to an end."""
        thought = self._transcript.tokens("thinking")
        if thought and not self._transcript.thinking:
            self._control.thoughts.ended(thought, closed=self._keeper.thinking_was_closed)

    @property
    def _stopped_by_watchdog(self) -> bool:
        return self._keeper.watch_ns is not None and self._control.watchdog.fired

    def _tokens(self) -> Generator[Event, None, FinishReason]:
        """The events of the tokens that the model says or its form forces; returns how it ended."""
        model, transcript, choosing = self._model, self._transcript, self._choosing
        logits = self._read()
        if logits is None:
            return "cancelled" if self._cancelled() else "deadline"
        while not self._cancelled():
            token = choosing.next(logits)
            if transcript.count == 0:
                self._watch.mark_first_token()
            yield transcript.add(token)
            run = [token, *choosing.forced()]
            for known in run[1:]:
                yield transcript.add(known)
            if choosing.ends(run[-1]):
                return choosing.finish("stop")
            if transcript.full:
                return "length"
            if not self._allows(len(run)):
                return "deadline"
            logits = model.step(token) if len(run) == 1 else model.run_known(run)
        return "cancelled"

    def _allows(self, count: int) -> bool:
        """Whether there is time to compute the last `count` tokens."""
        if count == 1:
            return self._keeper.allows_step(self._model.length + 1)
        return self._keeper.allows_known(count, self._model.length)

    def _read(self) -> Logits | None:
        """Pictures and prompt into the cache; the logits after them, or None if it was ended before."""
        model, prepared, keeper = self._model, self._prepared, self._keeper
        plan, past = prepared.plan, prepared.kept.rows
        for part in plan.rows:
            if part.start + part.count <= past:
                continue
            if (
                isinstance(part, PictureRows)
                and part.picture not in prepared.kept.pictures
                and not keeper.allows_picture(part.whole, plan.length, past=past)
            ):
                return None
            model.write_part(part, prepared.pictures, self._watch, keys=prepared.keys)
        logits = None
        with self._watch.measure("prefill"):
            chunk_tokens = model.chunk_tokens if keeper.plan is None else keeper.plan.chunk_tokens
            chunks = model.prefill_chunks(plan.length, chunk_tokens=chunk_tokens, past=past, row_ids=prepared.row_ids)
            for start in range(past, plan.length, chunk_tokens):
                if self._cancelled() or not keeper.allows_chunk(start, plan.length):
                    return None
                logits = next(chunks)
        return logits

    def _result(self, finish: FinishReason) -> Result:
        transcript, prepared, choosing = self._transcript, self._prepared, self._choosing
        outcome = self._keeper.outcome(
            stopped=finish == "deadline",
            watchdog=self._stopped_by_watchdog,
            first_token_ms=self._watch.first_token_ms,
        )
        answer = transcript.text("answer")
        return Result(
            answer=answer,
            thinking=transcript.text("thinking"),
            finish_reason=finish,
            token_ids=transcript.token_ids,
            tokens=TokenCounts(
                prompt=prepared.plan.text_tokens,
                visual=prepared.plan.visual_tokens,
                thinking=transcript.tokens("thinking"),
                answer=transcript.tokens("answer"),
                reused=prepared.kept.rows,
                forced=choosing.forced_tokens,
            ),
            timings_ms=self._watch.timings(load_ns=self._load_ns),
            backend=self._model.backend,
            precision=self._precision,
            value=choosing.value(answer),
            made_up=choosing.made_up,
            budget=self._request.budget,
            plan=self._keeper.plan,
            outcome=outcome,
        )
