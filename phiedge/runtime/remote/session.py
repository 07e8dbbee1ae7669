"""The surface of `Session` over a server: the same requests, budgets and results, and the same refusals.

Tokens, template and pictures are the bundle's; what computes is the server. A deadline is kept from outside: what the
server's last requests do not allow is refused, and a stream that would end late is closed. A form is kept by the
server, checked here, and completed here where the deadline cut it. What only an engine of one's own can do is refused
by name: logits, a form after a thinking, and limits on the thinking, as no thinking can be closed on a server.
"""

import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, cast, get_args

from phiedge.bundle import Bundle
from phiedge.errors import PromptError, SessionBusyError, SessionClosedError, SessionError, UsageError
from phiedge.runtime.budget import Budget
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.forms.ending import Ending, ending_after
from phiedge.runtime.forms.form import Form
from phiedge.runtime.forms.grammar import Grammar, Grammars, check_room
from phiedge.runtime.images import ImageSource, Pixels, load_images
from phiedge.runtime.merge import plan_rows
from phiedge.runtime.preprocess import PatchBudget, Picture, fit_picture
from phiedge.runtime.prompt import Message, Prompt, PromptBuilder, ThinkMode
from phiedge.runtime.realtime import Report
from phiedge.runtime.remote.bodies import CHAT, COMPLETIONS, Kind, completion, conversation
from phiedge.runtime.remote.endpoint import Endpoint, Events, Serving, StreamTimeout
from phiedge.runtime.remote.forms import REMEDIES, constraint
from phiedge.runtime.remote.keeping import ServerKeeper, admit
from phiedge.runtime.remote.pace import ServerPace
from phiedge.runtime.request import Request
from phiedge.runtime.result import Event, FinishReason, Result, TokenCounts
from phiedge.runtime.sampling import Sampling
from phiedge.runtime.stopwatch import Stopwatch
from phiedge.runtime.tokens import Tokenizer
from phiedge.runtime.transcript import Transcript

STALL_MS = 30_000.0  # without an event; a prompt may wait for others first


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server says of itself: the model to ask for, whose server it is, and how many positions it has."""

    model: str
    kind: Kind | Literal["edge-llm"]
    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A request that was accepted: where its body goes, what it counts, and the keeper of its budget."""

    path: str
    body: dict[str, Any]
    prompt: Prompt
    text_tokens: int
    visual_tokens: int
    keeper: ServerKeeper
    grammar: Grammar | None

    @property
    def rows(self) -> int:
        return self.text_tokens + self.visual_tokens


class RemoteSession:
    """A server that answers for a bundle; get one from `RemoteSession.connect` and close it, best by `with`.

    One request runs at a time, as in `Session`; `cancel` and `close` may be called from any thread at any time.
    """

    def __init__(
        self, bundle: Bundle, endpoint: Serving, served: Served, *, budget: Budget | None, load_ns: int
    ) -> None:
        facts = bundle.manifest.facts
        self._bundle, self._endpoint, self._served = bundle, endpoint, served
        self._tokenizer = Tokenizer(bundle.file(bundle.manifest.tokenizer), facts)
        template = ChatTemplate.read(bundle.file(bundle.manifest.chat_template))
        self._prompts = PromptBuilder(template, self._tokenizer, facts)
        self._grammars = Grammars(self._tokenizer, facts)
        self._budget, self._load_ns = budget, load_ns
        self._pace = ServerPace()
        self._guard = threading.Lock()
        self._running: Events | None = None
        self._busy = self._cancelled = self._closed = False

    @staticmethod
    def connect(
        url: str, bundle: str | os.PathLike[str] | Bundle, *, model: str | None = None, budget: Budget | None = None
    ) -> "RemoteSession":
        """Connect to the OpenAI-compatible server at `url`, which serves a checkpoint of `bundle`.

        `model` is what the server calls it, where it serves several. Raises `SessionError` where no server answers,
        `UsageError` for a model that it does not have or a server that is neither vLLM's nor TensorRT-LLM's.
        """
        begun_ns = time.perf_counter_ns()
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        endpoint = Endpoint(url)
        try:
            said = endpoint.get("/v1/models")
        except StreamTimeout as error:
            raise SessionError(f"the server at {url} does not answer", remedy="see that it has started") from error
        served = _served(said, url, model, opened.manifest.max_context)
        return RemoteSession(opened, endpoint, served, budget=budget, load_ns=time.perf_counter_ns() - begun_ns)

    @property
    def bundle(self) -> Bundle:
        """The bundle whose checkpoint the server has."""
        return self._bundle

    @property
    def realtime(self) -> tuple[Report, ...]:
        """Nothing was asked of the system: what computes is another process."""
        return ()

    @property
    def max_context(self) -> int:
        """How many positions a prompt, its pictures and its answer may take together."""
        return self._served.context

    def generate(
        self,
        prompt: str,
        images: Iterable[ImageSource] = (),
        *,
        think: ThinkMode = "auto",
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        raw: bool = False,
        history: Sequence[Message] = (),
        max_visual_tokens: int | None = None,
        budget: Budget | None = None,
        form: Form | None = None,
    ) -> Result:
        """As `Session.generate`, computed by the server."""
        events = self.stream(
            prompt,
            images,
            think=think,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            raw=raw,
            history=history,
            max_visual_tokens=max_visual_tokens,
            budget=budget,
            form=form,
        )
        result = None
        for event in events:
            result = event.result
        assert result is not None
        return result

    def stream(
        self,
        prompt: str,
        images: Iterable[ImageSource] = (),
        *,
        think: ThinkMode = "auto",
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        raw: bool = False,
        history: Sequence[Message] = (),
        max_visual_tokens: int | None = None,
        budget: Budget | None = None,
        form: Form | None = None,
    ) -> Iterator[Event]:
        """As `Session.stream`. Closing the iterator closes the server's stream, which ends its work.

        A `form` needs think="off", or a raw prompt that skips the thinking. Raises `SessionError` where the server did
        not keep to it.
        """
        request = Request(
            prompt=prompt,
            images=images,
            think=think,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
            raw=raw,
            history=history,
            max_visual_tokens=max_visual_tokens,
            budget=budget or self._budget,
            form=form,
        )
        return self._events(request)

    def compile(self, form: Form) -> int:
        """As `Session.compile`: what an answer is checked by, before the first request pays for it."""
        self._asked(form)
        return self._grammars.compile(form).least_tokens

    def cancel(self) -> None:
        """End the request that is running, if any, from another thread; it gives a result with what there is so far."""
        with self._guard:
            self._stop_running()

    def close(self) -> None:
        """Ask for nothing more; a running request is cancelled. Closing twice is fine."""
        with self._guard:
            self._closed = True
            self._stop_running()

    def __enter__(self) -> "RemoteSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _events(self, request: Request) -> Iterator[Event]:
        self._begin()
        try:
            yield from self._answer(request)
        finally:
            with self._guard:
                running, self._running, self._busy = self._running, None, False
            if running is not None:
                running.release()

    def _answer(self, request: Request) -> Iterator[Event]:
        watch = Stopwatch()
        ready = self._prepare(request, watch)
        transcript = Transcript(
            self._tokenizer,
            self._bundle.manifest.facts,
            capacity=ready.body["max_tokens"],
            starts_thinking=ready.prompt.starts_thinking,
        )
        finish: FinishReason | None = None
        try:
            finish = yield from self._receive(ready, transcript, watch)
        except StreamTimeout:
            if not ready.keeper.is_over:
                raise SessionError(
                    f"the server at {self._endpoint.url} sent nothing for {STALL_MS / 1000:g} s",
                    remedy="look at its log; a budget with deadline_ms ends such a wait earlier",
                ) from None
            finish = "deadline"
        except SessionError:
            if not self._cancelled:
                raise
            finish = "cancelled"
        ending = self._ending(ready, transcript, finish)
        for token in self._tokenizer.encode(ending.text):
            yield transcript.add(token)
        rest = transcript.end()
        if rest is not None:
            yield rest
        yield Event(kind="done", result=self._result(request, ready, transcript, finish, watch, ending))

    def _ending(self, ready: _Ready, transcript: Transcript, finish: FinishReason) -> Ending:
        """What an answer lacks of its form. Raises `SessionError` where the server did not keep to it."""
        if ready.grammar is None or finish == "cancelled":
            return Ending(said=False)
        ending = ending_after(ready.grammar, b"".join(map(self._tokenizer.bytes_of, transcript.token_ids)))
        if ending is None or (ending.text and finish == "stop"):
            name, kind = ready.grammar.form.name, self._served.kind
            raise SessionError(
                f"the server did not keep to the {name}: it answered {transcript.text('answer')[:200]!r}",
                remedy=REMEDIES[kind],
            )
        return ending

    def _receive(self, ready: _Ready, transcript: Transcript, watch: Stopwatch) -> Generator[Event, None, FinishReason]:
        """The tokens as they come; returns how it ended."""
        stream = self._endpoint.stream(ready.path, ready.body, timeout_ms=ready.keeper.wait_ms(STALL_MS))
        with self._guard:
            self._running = stream
            if self._cancelled:
                return "cancelled"
        finish: FinishReason | None = None
        while (event := stream.next(ready.keeper.wait_ms(STALL_MS))) is not None:
            self._check_usage(event.get("usage"), ready)
            tokens, said = self._tokens(event)
            for token in tokens:
                if transcript.full:
                    break
                if transcript.count == 0:
                    watch.mark_first_token()
                ready.keeper.note_token()
                yield transcript.add(token)
            finish = said or finish
            if ready.keeper.is_over and finish is None:
                return "deadline"
        if finish is None:
            raise SessionError(
                f"the server at {self._endpoint.url} ended after {transcript.count} tokens without saying why",
                remedy="look at its log; ask again",
            )
        return finish

    def _tokens(self, event: dict[str, Any]) -> tuple[list[int], FinishReason | None]:
        """What an event adds. Servers that do not tell ids tell text, which is tokenised piece by piece."""
        choices = event.get("choices") or []
        if not choices:
            return [], None
        choice = choices[0]
        delta = choice.get("delta", choice)
        if delta.get("reasoning_content") or delta.get("reasoning"):
            raise SessionError(
                "the server takes the thinking out of the answer", remedy="start it without --reasoning-parser"
            )
        text = delta.get("content") or delta.get("text") or ""
        ids = choice.get("token_ids")
        known = isinstance(ids, list) and all(type(token) is int for token in ids)
        reason = choice.get("finish_reason")
        if reason not in (None, "stop", "length"):
            raise SessionError(f"the server ended the answer with {reason!r}", remedy="look at its log")
        return (ids if known else self._tokenizer.encode(text) if text else []), cast("FinishReason | None", reason)

    def _check_usage(self, usage: Any, ready: _Ready) -> None:
        """A prompt of text must have been read as the tokens that were sent."""
        if not isinstance(usage, dict) or ready.visual_tokens:
            return
        found = usage.get("prompt_tokens")
        if isinstance(found, int) and found != ready.text_tokens:
            raise SessionError(
                f"the server read {found} tokens, {ready.text_tokens} were sent",
                remedy="serve a checkpoint of this bundle",
            )

    def _prepare(self, request: Request, watch: Stopwatch) -> _Ready:
        facts = self._bundle.manifest.facts
        with watch.measure("preprocess"):
            pixels = load_images(request.images)
            cut = PatchBudget.from_facts(facts, cap=request.max_visual_tokens)
            pictures = [fit_picture(one, cut) for one in pixels]
            self._check_pictures(request, pictures)
            keeper = admit(request, self._pace, rows_of=lambda think: self._rows(request, pictures, think), watch=watch)
            prompt = self._prompt(request, len(pictures), keeper.think)
            plan = plan_rows(
                prompt, [picture.grid for picture in pictures], context=self._served.context, room=1, cut_at=None
            )
            most = min(request.max_new_tokens, self._served.context - plan.length)
            shown = pixels if request.max_visual_tokens is None else [picture.pixels for picture in pictures]
            path, body = self._body(
                request, prompt, shown=shown, pictures=pictures, think=keeper.think, max_tokens=most
            )
            grammar = None
            if request.form is not None:
                body |= self._asked(request.form)
                grammar = self._grammar(request.form, prompt, max_new_tokens=request.max_new_tokens, room=most)
        return _Ready(
            path=path,
            body=body,
            prompt=prompt,
            text_tokens=plan.text_tokens,
            visual_tokens=plan.visual_tokens,
            keeper=keeper,
            grammar=grammar,
        )

    def _asked(self, form: Form) -> dict[str, Any]:
        """What is sent for a form."""
        return constraint(form, cast("Kind", self._served.kind))

    def _grammar(self, form: Form, prompt: Prompt, *, max_new_tokens: int, room: int) -> Grammar:
        """What an answer is checked by."""
        if prompt.starts_thinking or not prompt.mode_is_set:
            raise UsageError(
                "a server keeps to a form from the first token on, and would have to think in it",
                remedy="give think='off', or open the bundle with Session.open",
            )
        grammar = self._grammars.compile(form)
        check_room(grammar, max_new_tokens=max_new_tokens, room=room)
        return grammar

    def _body(
        self,
        request: Request,
        prompt: Prompt,
        *,
        shown: Sequence[Pixels],
        pictures: Sequence[Picture],
        think: ThinkMode,
        max_tokens: int,
    ) -> tuple[str, dict[str, Any]]:
        """Where a request goes, and what is sent; `shown` are pictures for one that fits them itself."""
        kind = cast("Kind", self._served.kind)
        named: dict[str, Any] = {"model": self._served.model, "kind": kind, "max_tokens": max_tokens}
        if pictures:
            return CHAT, conversation(request, shown, opening=self._opening(think), **named)
        return COMPLETIONS, completion(request, prompt, **named)

    def _check_pictures(self, request: Request, pictures: Sequence[Picture]) -> None:
        if not pictures:
            return
        if self._served.kind != "vllm":
            raise UsageError(
                "TensorRT-LLM has this model's text decoder only, and no eyes",
                remedy="serve the compressed-tensors checkpoint with vLLM, or open the bundle with Session.open",
            )
        if request.raw:
            raise PromptError(
                "a server renders a prompt with pictures itself", remedy="give the question without raw=True"
            )

    def _prompt(self, request: Request, images: int, think: ThinkMode) -> Prompt:
        if request.raw:
            return self._prompts.raw(request.prompt, images=images)
        return self._prompts.chat(request.prompt, images=images, think=think, history=request.history)

    def _rows(self, request: Request, pictures: Sequence[Picture], think: ThinkMode) -> int:
        text = self._prompt(request, len(pictures), think).text_tokens
        return text + sum(picture.grid.tokens for picture in pictures)

    def _opening(self, think: ThinkMode) -> str:
        return {"auto": "", "on": self._tokenizer.think_text, "off": self._tokenizer.nothink_text}[think]

    def _result(
        self,
        request: Request,
        ready: _Ready,
        transcript: Transcript,
        finish: FinishReason,
        watch: Stopwatch,
        ending: Ending,
    ) -> Result:
        timings = watch.timings(load_ns=self._load_ns)
        if timings.first_token is not None:
            self._pace.saw(
                rows=ready.rows,
                first_token_ms=timings.first_token,
                tokens=transcript.count,
                decode_ms=timings.decode,
            )
        answer = transcript.text("answer")
        return Result(
            answer=answer,
            thinking=transcript.text("thinking"),
            finish_reason=finish,
            token_ids=transcript.token_ids,
            tokens=TokenCounts(
                prompt=ready.text_tokens,
                visual=ready.visual_tokens,
                thinking=transcript.tokens("thinking"),
                answer=transcript.tokens("answer"),
            ),
            timings_ms=timings,
            backend=self._served.kind,
            precision=self._bundle.manifest.precision.name,
            value=request.form.value(answer) if request.form is not None and ending.said else None,
            made_up=ending.made_up,
            budget=request.budget,
            outcome=ready.keeper.outcome(stopped=finish == "deadline", first_token_ms=timings.first_token),
        )

    def _begin(self) -> None:
        with self._guard:
            if self._closed:
                raise SessionClosedError("the session is closed", remedy="connect again: RemoteSession.connect(url)")
            if self._busy:
                raise SessionBusyError(
                    "the session is answering another request",
                    remedy="wait for it or cancel it; for requests at the same time, connect a session for each",
                )
            self._busy, self._cancelled = True, False

    def _stop_running(self) -> None:
        if self._busy:
            self._cancelled = True
        if self._running is not None:
            self._running.close()


def _served(said: Any, url: str, model: str | None, bundle_context: int) -> Served:
    """Which of the server's models it is. Raises `UsageError`, `SessionError`."""
    entries = said.get("data") if isinstance(said, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
        raise SessionError(f"{url} does not list its models", remedy="give the address of an OpenAI-compatible server")
    names = [str(entry["id"]) for entry in entries]
    if model is None and len(names) != 1:
        raise UsageError(f"{url} serves {', '.join(names) or 'nothing'}", remedy="name one: model=...")
    if model is not None and model not in names:
        raise UsageError(f"{url} does not serve {model!r}", remedy=f"use one of {', '.join(names)}")
    entry = entries[names.index(model) if model else 0]
    owner = entry.get("owned_by")
    if owner not in get_args(Kind):
        raise UsageError(
            f"the server at {url} is {owner!r}, phiedge knows {' and '.join(get_args(Kind))}",
            remedy="serve the checkpoint with one of them",
        )
    most = entry.get("max_model_len")
    context = min(most, bundle_context) if isinstance(most, int) else bundle_context
    return Served(model=names[entries.index(entry)], kind=cast("Kind", owner), context=context)
