"""A server in this process that speaks as vLLM's and TensorRT-LLM's OpenAI-compatible servers do, by a script.

    with serving(Script(steps=[tokens([5, 6]), finished("stop"), DONE])) as server:
        RemoteSession.connect(server.url, bundle)

A step is bytes to send, or an event to wait for; after the last one the connection is closed.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DONE = b"data: [DONE]\n\n"


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def tokens(ids: Sequence[int], text: str = "", *, chat: bool = False) -> bytes:
    """A chunk with the ids of its tokens, as vLLM sends it when asked."""
    said = {"delta": {"content": text}} if chat else {"text": text}
    return event({"choices": [{"index": 0, **said, "token_ids": list(ids), "finish_reason": None}]})


def text(piece: str, *, chat: bool = False) -> bytes:
    """A chunk with text only."""
    said = {"delta": {"content": piece}} if chat else {"text": piece}
    return event({"choices": [{"index": 0, **said, "finish_reason": None}]})


def finished(reason: str, *, prompt_tokens: int | None = None) -> bytes:
    last = event({"choices": [{"index": 0, "text": "", "finish_reason": reason}]})
    return last if prompt_tokens is None else last + event({"choices": [], "usage": {"prompt_tokens": prompt_tokens}})


@dataclass
class Script:
    """What the server answers to a request, and what it was asked."""

    steps: Sequence[bytes | threading.Event] = ()
    owner: str = "vllm"
    models: tuple[str, ...] = ("phi",)
    max_model_len: int | None = None
    status: int = 200
    error: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)  # the client was gone before the last step
    waiting: threading.Event = field(default_factory=threading.Event)  # the script waits for an event


@dataclass
class Server:
    url: str
    script: Script


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(url=f"http://127.0.0.1:{server.server_address[1]}", script=script)
    finally:
        for step in script.steps:
            if isinstance(step, threading.Event):
                step.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            entries = [{"id": name, "owned_by": script.owner} for name in script.models]
            if script.max_model_len is not None:
                entries = [entry | {"max_model_len": script.max_model_len} for entry in entries]
            self._answer(200, json.dumps({"object": "list", "data": entries}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.asked.append((self.path, body))
            if script.status != 200:
                self._answer(script.status, json.dumps({"error": {"message": script.error}}).encode())
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for step in script.steps:
                    if isinstance(step, threading.Event):
                        script.waiting.set()
                        step.wait(20)
                    else:
                        self.wfile.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                script.left.set()
            self.close_connection = True

        def _answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
