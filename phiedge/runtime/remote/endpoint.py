"""One HTTP endpoint: a JSON object of it, or a stream of events that ends when it should.

Nothing waits longer than it was told to: not for a connection, not for an event, and not for a line that comes byte by
byte. A stream can be closed from another thread, which is how a request is cancelled: servers stop computing for a
client that is gone.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from phiedge.errors import ContextLengthError, SessionError, UsageError

CONNECT_MS = 3000.0
_ERROR_BYTES = 65_536
_LONGEST_LINE = 1 << 20
_REMEDY = "see that the server runs and serves this checkpoint: docs/guides/ecosystem.md"


class StreamTimeout(Exception):
    """Nothing came in the time that was allowed."""


class Events(Protocol):
    """The events of one answer, as `EventStream` has them."""

    def next(self, timeout_ms: float) -> Any | None: ...

    def close(self) -> None: ...

    def release(self) -> None: ...


class Serving(Protocol):
    """What answers, by whatever way: `url` is how a person knows it."""

    @property
    def url(self) -> str: ...

    def stream(self, path: str, body: Mapping[str, object], *, timeout_ms: float) -> Events: ...


class Endpoint:
    """A server's address, such as http://127.0.0.1:8000."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise UsageError(f"{url!r} is not a server's address", remedy="give one like http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/").removesuffix("/v1")

    def get(self, path: str, *, timeout_ms: float = CONNECT_MS) -> Any:
        """The JSON object at `path`. Raises `SessionError`."""
        connection, response = self._send("GET", path, None, timeout_ms)
        try:
            return json.loads(response.read(_LONGEST_LINE))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SessionError(f"{self.url}{path} gives no JSON: {error}", remedy=_REMEDY) from error
        finally:
            connection.close()

    def stream(self, path: str, body: Mapping[str, object], *, timeout_ms: float) -> "EventStream":
        """Send `body` and read what comes as events. Raises `SessionError`, `StreamTimeout`."""
        connection, response = self._send("POST", path, body, timeout_ms)
        return EventStream(self.url, connection, response)

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None, timeout_ms: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(timeout_ms, CONNECT_MS) / 1000)
        try:
            connection.connect()
            connection.sock.settimeout(timeout_ms / 1000)
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, self._path + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except TimeoutError as error:
            connection.close()
            raise StreamTimeout from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = str(error) or type(error).__name__
            raise SessionError(f"no server answers at {self.url}: {reason.lower()}", remedy=_REMEDY) from error
        if response.status != http.client.OK:
            said = _told(response)
            connection.close()
            raise _refused(self.url, response.status, said)
        return connection, response


class EventStream:
    """The events of one answer."""

    def __init__(self, url: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._url = url
        self._connection, self._response = connection, response
        self._socket: socket.socket | None = connection.sock or _socket_of(response)
        self._waiting = b""

    def next(self, timeout_ms: float, clock_ns: Callable[[], int] = time.perf_counter_ns) -> Any | None:
        """The next event, or None after the last. Raises `StreamTimeout`, and `SessionError` for a broken stream."""
        end_ns = clock_ns() + int(timeout_ms * 1e6)
        while True:
            line, found, rest = self._waiting.partition(b"\n")
            if found:
                self._waiting = rest
                event = self._event(line.strip())
                if event is not None:
                    return None if event == "[DONE]" else event
                continue
            if len(line) > _LONGEST_LINE:
                raise self._broken(f"it sent a line of over {_LONGEST_LINE} bytes")
            self._waiting += self._read((end_ns - clock_ns()) / 1e9)

    def close(self) -> None:
        """End it, from any thread; whoever reads meanwhile gets a `SessionError`."""
        if self._socket is not None:
            with suppress(OSError):  # the server was faster
                self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Free it, in the thread that reads."""
        self.close()
        self._response.close()
        self._connection.close()

    def _read(self, timeout_s: float) -> bytes:
        if timeout_s <= 0:
            raise StreamTimeout
        try:
            if self._socket is not None:
                self._socket.settimeout(timeout_s)
            data = self._response.read1(_ERROR_BYTES)
        except TimeoutError as error:
            raise StreamTimeout from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._broken(f"the connection broke: {error or type(error).__name__}") from error
        if not data:
            raise self._broken("it ended in the middle of the answer")
        return data

    def _event(self, line: bytes) -> Any | None:
        """What a line says; None for one that says nothing."""
        if not line.startswith(b"data:"):
            return None
        said = line[5:].strip()
        if said == b"[DONE]":
            return "[DONE]"
        try:
            event = json.loads(said)
        except ValueError as error:
            raise self._broken(f"it sent what is not JSON: {said[:60]!r}") from error
        if not isinstance(event, dict):
            raise self._broken(f"it sent {said[:60]!r} as an event")
        if "error" in event:
            raise SessionError(f"the server at {self._url} failed: {_message(event)}", remedy="look at its log")
        return event

    def _broken(self, why: str) -> SessionError:
        return SessionError(f"the stream of {self._url} is broken: {why}", remedy="look at the server's log; ask again")


def _socket_of(response: http.client.HTTPResponse) -> socket.socket | None:
    """The socket of a response whose connection was handed over to it."""
    raw = getattr(response.fp, "raw", None)
    found = getattr(raw, "_sock", None)
    return found if isinstance(found, socket.socket) else None


def _told(response: http.client.HTTPResponse) -> str:
    try:
        data = response.read(_ERROR_BYTES)
    except (OSError, http.client.HTTPException):
        return "nothing"
    try:
        return _message(json.loads(data))
    except ValueError:
        return data.decode(errors="replace").strip()[:300] or "nothing"


def _message(value: Any) -> str:
    error = value.get("error", value) if isinstance(value, dict) else value
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:300]


def _refused(url: str, status: int, said: str) -> SessionError | ContextLengthError:
    if status == http.client.BAD_REQUEST and "context length" in said.lower():
        return ContextLengthError(f"the server at {url} has no room for this: {said}", remedy="ask for less")
    if status in (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE):
        return SessionError(f"the server at {url} is busy ({status}): {said}", remedy="ask again later")
    return SessionError(f"the server at {url} refused the request ({status}): {said}", remedy=_REMEDY)
