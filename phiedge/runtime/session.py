"""The session: a bundle that is open and answers one request at a time.

Opening allocates everything; a request writes into what is there. A request ends with a result even when it is
cancelled, and whatever way it ends, the session can take the next one.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

from phiedge.bundle import Bundle
from phiedge.engines.interface import RunStoppedError
from phiedge.errors import SessionBusyError, SessionClosedError, SessionError, UsageError, out_of_memory
from phiedge.runtime.answering import Answering
from phiedge.runtime.budget import Budget
from phiedge.runtime.control import Control
from phiedge.runtime.forms.form import Form
from phiedge.runtime.images import ImageSource
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.preparing import prepare
from phiedge.runtime.profile.store import Profile
from phiedge.runtime.prompt import Message, ThinkMode
from phiedge.runtime.realtime import RealtimePolicy, Report, apply
from phiedge.runtime.request import Request
from phiedge.runtime.result import Event, Result
from phiedge.runtime.reuse import DEFAULT_REUSE_BYTES
from phiedge.runtime.sampling import Sampler, Sampling
from phiedge.runtime.stopwatch import Stopwatch

DEFAULT_CHUNK_TOKENS = 256


class Session:
    """A bundle that is open; get one from `Session.open` and close it, best by `with`.

    One request runs at a time, from any thread; a second one meanwhile raises `SessionBusyError`. `cancel` and `close`
    may be called from any thread at any time.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: LoadedModel,
        *,
        load_ns: int,
        budget: Budget | None = None,
        control: Control | None = None,
        realtime: RealtimePolicy | None = None,
    ) -> None:
        self._bundle = bundle
        self._model: LoadedModel | None = model
        self._load_ns = load_ns
        self._sampler = Sampler(model.facts.vocab_size)
        self._guard = threading.Lock()  # held for a few statements only, never while something runs
        self._busy = False
        self._cancelled = False
        self._budget = budget
        self._control = control or Control(bundle, threads=None, clock_ns=time.perf_counter_ns)
        self.realtime: tuple[Report, ...] = () if realtime is None else apply(realtime, trial=self._try)
        # A profile depends on what was wished for and granted.
        if budget is not None:
            self._control.prepare(model)

    @staticmethod
    def open(
        path: str | os.PathLike[str] | Bundle,
        *,
        max_context: int | None = None,
        threads: int | None = None,
        chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
        backend: str | None = None,
        budget: Budget | None = None,
        realtime: RealtimePolicy | None = None,
        reuse: bool = False,
        reuse_bytes: int = DEFAULT_REUSE_BYTES,
    ) -> "Session":
        """Open the bundle at `path`, or one that is open already, and allocate everything.

        `max_context` is the number of positions for prompt, pictures and answer together, by default all that the
        bundle was exported for; the cache takes memory in proportion. `threads` defaults to the physical cores. The
        prompt is computed `chunk_tokens` at a time. `backend` names what computes (`phiedge.engines.backends`), by
        default what suits the bundle's target. `budget` holds for every request that brings none of its own.
        `realtime` is what is asked of the system once the engines are open; `Session.realtime` says what became of it.

        With `reuse`, what a request has in common with the one before it (its history, the same pictures) is not
        computed again, and features of pictures are kept up to `reuse_bytes`; answers may then differ by rounding.
        Raises `BundleError`, `ContextLengthError`, `UsageError`, `SessionError`.
        """
        begun_ns = time.perf_counter_ns()
        bundle = path if isinstance(path, Bundle) else Bundle.open(path)
        model = LoadedModel(
            bundle,
            max_context=max_context,
            threads=threads,
            chunk_tokens=chunk_tokens,
            backend=backend,
            reuse_bytes=reuse_bytes if reuse else None,
        )
        control = Control(bundle, threads=threads, clock_ns=time.perf_counter_ns)
        load_ns = time.perf_counter_ns() - begun_ns
        return Session(bundle, model, load_ns=load_ns, budget=budget, control=control, realtime=realtime)

    @property
    def bundle(self) -> Bundle:
        """The bundle that this session was opened on."""
        return self._bundle

    @property
    def profile(self) -> Profile | None:
        """The latency profile that promises rest on: None where the bundle has none of this machine, and before the
        first budget asked for one."""
        return self._control.profile

    @property
    def activations(self) -> str:
        """The type that the decoder computes in: "float32" or "float16"."""
        return self._require_open().activations

    @property
    def max_context(self) -> int:
        """How many positions a prompt, its pictures and its answer may take together."""
        return self._require_open().context

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
        truncate_like_publisher: bool = False,
        history: Sequence[Message] = (),
        max_visual_tokens: int | None = None,
        budget: Budget | None = None,
        form: Form | None = None,
    ) -> Result:
        """Answer `prompt` about `images` (paths, encoded bytes, PIL images or uint8 arrays [h, w, 3] RGB, in order).

        - `<image>` in the prompt says where a picture goes; without it, all pictures go before the prompt.
        - `think`: "on" makes the model reason first, "off" makes it answer at once, "auto" leaves it to the model.
        - `max_new_tokens` is a ceiling; an answer that the ceiling or the context cuts has `finish_reason` "length".
        - `temperature` 0 is greedy; above, `top_p` and `seed` apply, and the same seed gives the same answer.
        - `raw`: the prompt is already rendered, and no chat template is applied.
        - `truncate_like_publisher` cuts a prompt with pictures where the publisher's own code does, which loses its
          end.
        - `history`: the turns before, as {"role": "user" or "assistant", "content": text}.
        - `max_visual_tokens` is a ceiling for each picture, below the model's own; the picture is then seen smaller.
        - `budget`: limits on its time, in place of the session's own; `Result.plan` and `Result.outcome` say how it
          was decided and how it fared. An answer that its deadline cuts has `finish_reason` "deadline".
        - `form`: what the answer must look like (`JsonForm`, `ChoiceForm`, `PatternForm`, `BoxForm`, `PointForm`); the
          thinking before it is free. `Result.value` is what it stands for. Where tokens or time run out it is made to
          end, so that a cut answer has its form, too.

        Raises `InputError` (`ImageError`, `PromptError`, `ContextLengthError`), `BudgetError` for a budget that cannot
        be met, `UsageError`, `MissingExtraError` for a form without the library that it needs, and `SessionError`
        (`SessionBusyError`, `SessionClosedError`).
        """
        events = self.stream(
            prompt,
            images,
            think=think,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            raw=raw,
            truncate_like_publisher=truncate_like_publisher,
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
        truncate_like_publisher: bool = False,
        history: Sequence[Message] = (),
        max_visual_tokens: int | None = None,
        budget: Budget | None = None,
        form: Form | None = None,
    ) -> Iterator[Event]:
        """Answer like `generate`, giving an `Event` for every token and a last one, "done", with the result.

        Wrong options are refused here; the request starts with the first `next`, which is where every other error
        comes, and it occupies the session until the iterator ends or is closed. The reader's own time counts as time of
        the request.
        """
        budget = budget or self._budget
        request = Request(
            prompt=prompt,
            images=images,
            think=budget.think if budget is not None and think == "auto" else think,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
            raw=raw,
            truncate_like_publisher=truncate_like_publisher,
            history=history,
            max_visual_tokens=max_visual_tokens,
            budget=budget,
            form=form,
        )
        return self._events(request)

    def logits(
        self,
        prompt: str,
        images: Iterable[ImageSource] = (),
        *,
        think: ThinkMode = "auto",
        raw: bool = False,
        truncate_like_publisher: bool = False,
        history: Sequence[Message] = (),
        max_visual_tokens: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """The logits `[vocab]` of the first token of the answer, for scoring and checks. Options and errors as
        `generate`.

        Raises `SessionError` if it is cancelled, as there is no part of it to give.
        """
        request = Request(
            prompt=prompt,
            images=images,
            think=think,
            raw=raw,
            truncate_like_publisher=truncate_like_publisher,
            history=history,
            max_visual_tokens=max_visual_tokens,
        )
        logits: npt.NDArray[np.float32] = self._forced_logits(request, ())[0]
        return logits

    def forced_logits(
        self,
        prompt: str,
        continuation: Sequence[int],
        images: Iterable[ImageSource] = (),
        *,
        think: ThinkMode = "auto",
        raw: bool = False,
    ) -> npt.NDArray[np.float32]:
        """The logits `[1 + len(continuation), vocab]` after the prompt and after each token of `continuation`.

        The tokens go through the decode steps that an answer goes through, whatever the model would have said itself:
        what `goldens.py` compares between machines, and an export between precisions. Errors as `generate`.
        """
        request = Request(prompt=prompt, images=images, think=think, raw=raw)
        return self._forced_logits(request, continuation)

    def compile(self, form: Form) -> int:
        """Prepare a form before its first request; returns how many tokens its shortest answer has.

        Raises `UsageError` for a form that cannot be followed, and `MissingExtraError`.
        """
        model = self._begin()
        try:
            return model.grammars.compile(form).least_tokens
        finally:
            self._end()

    def cancel(self) -> None:
        """End the request that is running, if any, from another thread; it gives a result with what there is so far."""
        with self._guard:
            self._stop_running(self._model)

    def close(self) -> None:
        """Free everything; a running request is cancelled and frees its part when it ends. Closing twice is fine."""
        with self._guard:
            model, self._model = self._model, None
            self._stop_running(model)
        self._control.watchdog.close()

    def __enter__(self) -> "Session":
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _events(self, request: Request) -> Iterator[Event]:
        model = self._begin()
        try:
            answering = Answering(
                model,
                request,
                sampler=self._sampler,
                control=self._control,
                cancelled=lambda: self._cancelled,
                load_ns=self._load_ns,
                precision=self._bundle.manifest.precision.name,
            )
            yield from answering.events()
        except MemoryError as error:
            model.forget()  # rows that were announced and never computed
            raise out_of_memory("the request", str(error)) from error
        finally:
            self._end()

    def _forced_logits(self, request: Request, continuation: Sequence[int]) -> npt.NDArray[np.float32]:
        model = self._begin()
        try:
            vocab_size = model.facts.vocab_size
            for token in continuation:
                if not 0 <= token < vocab_size:
                    raise UsageError(f"there is no token {token}; the vocabulary has {vocab_size}, from 0 on")
            watch = Stopwatch()
            prepared = prepare(model, request, watch, room=len(continuation))
            plan = prepared.plan
            logits = np.empty((1 + len(continuation), vocab_size), dtype=np.float32)
            model.write_rows(plan, prepared.pictures, watch)
            logits[0] = model.prefill(plan.length)
            for place, token in enumerate(continuation, start=1):
                logits[place] = model.step(token)
            return logits
        except RunStoppedError:
            raise SessionError("the request was cancelled before its logits were there") from None
        except MemoryError as error:
            model.forget()
            raise out_of_memory("the request", str(error)) from error
        finally:
            self._end()

    def _try(self, size: tuple[int, int] | None, tokens: int) -> float:
        """Milliseconds of a request about an empty picture of a size, or none, with exactly so many tokens."""
        model = self._begin()
        try:
            watch = Stopwatch(self._control.clock_ns)
            images = [] if size is None else [np.zeros((size[1], size[0], 3), dtype=np.uint8)]
            prepared = prepare(model, Request(prompt="?", images=images, think="off"), watch, room=tokens)
            model.write_rows(prepared.plan, prepared.pictures, watch)
            self._sampler.start(Sampling())
            logits = model.prefill(prepared.plan.length)
            for _ in range(tokens):
                logits = model.step(self._sampler.choose(logits))
            return watch.timings(load_ns=0).total
        finally:
            self._end()

    def _begin(self) -> LoadedModel:
        with self._guard:
            model = self._require_open()
            if self._busy:
                raise SessionBusyError(
                    "the session is answering another request",
                    remedy="wait for it or cancel it; for requests at the same time, open a session for each",
                )
            self._busy = True
            self._cancelled = False
            model.rearm()
            return model

    def _end(self) -> None:
        with self._guard:
            self._busy = False

    def _stop_running(self, model: LoadedModel | None) -> None:
        if self._busy and model is not None:
            self._cancelled = True
            model.stop()

    def _require_open(self) -> LoadedModel:
        if self._model is None:
            raise SessionClosedError("the session is closed", remedy="open a new one: Session.open(path)")
        return self._model
