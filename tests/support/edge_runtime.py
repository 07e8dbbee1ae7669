"""What stands in for Edge-LLM's native module: the surface that NVIDIA's server uses of it, and an answer in chunks."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


@dataclass(kw_only=True)
class Channel:
    """Chunks from one thread to another."""

    chunks: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: bool = False
    skips: bool | None = None

    def set_skip_special_tokens(self, skips: bool) -> None:
        self.skips = skips

    def wait_pop(self, *, timeout_ms: int) -> Any:
        try:
            return self.chunks.get(timeout=max(timeout_ms, 1) / 1000)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        self.cancelled.set()

    def is_cancelled(self) -> bool:
        return self.cancelled.is_set()

    def is_finished(self) -> bool:
        return self.finished


@dataclass(kw_only=True)
class NativeModule:
    """The module; `tokens` is what it answers, `reason` how it ends, None for an answer that does not end.

    `returns` is set when a call that hangs may come back; `requests` are those that it got.
    """

    tokens: Sequence[int] = ()
    reason: str | None = "END_ID"
    prompt_tokens: int = -1
    error: str | None = None
    hangs: bool = False
    returns: threading.Event = field(default_factory=threading.Event)
    requests: list[Any] = field(default_factory=list)
    opened: list[tuple[Any, ...]] = field(default_factory=list)

    FinishReason = SimpleNamespace(
        **{name: name for name in ("NOT_FINISHED", "END_ID", "LENGTH", "CANCELLED", "ERROR", "STOP_WORDS")}
    )
    Message = LLMGenerationRequest = ContextCacheConfig = SimpleNamespace
    StreamChannel = SimpleNamespace(create=Channel)

    @staticmethod
    def MessageContent(kind: str, content: str) -> Any:  # noqa: N802 - the module's own name
        return SimpleNamespace(kind=kind, content=content)

    @staticmethod
    def Request(*, messages: list[Any]) -> Any:  # noqa: N802 - the module's own name
        return SimpleNamespace(messages=messages)

    @staticmethod
    def load_image_from_bytes(data: bytes) -> Any:
        return SimpleNamespace(data=data, do_resize=True)

    def LLMRuntime(self, *arguments: Any) -> Any:  # noqa: N802 - the module's own name
        self.opened.append(arguments)
        return SimpleNamespace(capture_decoding_cuda_graph=lambda: None, handle_request=self._handle)

    def _handle(self, request: Any) -> None:
        self.requests.append(request)
        (channel,) = request.stream_channels
        if self.error is not None:
            raise RuntimeError(self.error)
        for number, token in enumerate(self.tokens):
            last = number == len(self.tokens) - 1 and self.reason is not None
            channel.chunks.put(
                SimpleNamespace(
                    text="",
                    token_ids=[token],
                    finished=last,
                    reason=self.reason if last else "NOT_FINISHED",
                    prompt_token_count=self.prompt_tokens,
                )
            )
        if self.hangs:
            self.returns.wait()
        elif self.reason is None:
            channel.cancelled.wait()
        channel.finished = True
