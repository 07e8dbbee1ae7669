"""TensorRT Edge-LLM's own runtime under the surface of `Session`, on the device that has it.

    with EdgeLlmSession.open("bundle", engines="bundle/engines/edge-llm/engines") as session:
        print(session.generate("What is on the display?", [frame]).answer)

Prompts, pictures and tokens are the bundle's; the prompt goes as rendered text with `<image>` in it, each picture at
the size that the model sees, not to be resized. A deadline is kept as over a server: what recent requests do not allow
is refused, and a stream is cancelled between two tokens. Vision and prompt cannot be interrupted there; where a call
does not come back, the next request is refused.

Its surface is known from how NVIDIA's server, in the wheel 0.11.0, uses it. None of this has run on a device.
"""

import importlib
import io
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from phiedge.bundle import Bundle
from phiedge.engines.edge_llm.built import BACKEND
from phiedge.engines.edge_llm.versions import PACKAGE, VERSION
from phiedge.engines.engine_record import find_engine
from phiedge.errors import BundleError, SessionError, ToolError, UsageError
from phiedge.runtime.budget import Budget
from phiedge.runtime.forms.form import Form
from phiedge.runtime.images import Pixels
from phiedge.runtime.preprocess import Picture
from phiedge.runtime.prompt import Prompt, ThinkMode
from phiedge.runtime.remote.endpoint import StreamTimeout
from phiedge.runtime.remote.session import RemoteSession, Served
from phiedge.runtime.request import Request

ENGINES = "engines"  # below the bundle's own directory for Edge-LLM, where its commands put them
_NEEDED = ("llm.engine", "visual/visual.engine")
_POLL_MS = 50.0  # of its channel, while nothing comes


class EdgeLlmSession(RemoteSession):
    """A bundle whose engines TensorRT Edge-LLM runs in this process; get one from `EdgeLlmSession.open`."""

    @staticmethod
    def open(
        bundle: str | os.PathLike[str] | Bundle,
        *,
        engines: str | os.PathLike[str] | None = None,
        budget: Budget | None = None,
    ) -> "EdgeLlmSession":
        """Open the engines that were built on this device from `bundle`, by default those in its own directory.

        Raises `BundleError` where there are none, `ToolError` without the release of Edge-LLM that they are for.
        """
        begun_ns = time.perf_counter_ns()
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        directory = _engines(opened, None if engines is None else Path(engines))
        runtime = NativeRuntime(load_native(), directory)
        served = Served(model=opened.manifest.model.name, kind="edge-llm", context=opened.manifest.max_context)
        load_ns = time.perf_counter_ns() - begun_ns
        return EdgeLlmSession(opened, runtime, served, budget=budget, load_ns=load_ns)

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
        text = request.prompt
        if not request.raw:
            text = self._prompts.render(text, images=len(pictures), think=think, history=request.history)
        return "", {
            "text": text,
            "pictures": [picture.pixels for picture in pictures],
            "max_tokens": max_tokens,
            "sampling": request.sampling,
        }

    def _check_pictures(self, request: Request, pictures: Sequence[Picture]) -> None:
        """Both halves of the model are there."""

    def _asked(self, form: Form) -> dict[str, Any]:
        raise UsageError(
            f"{PACKAGE} {VERSION} takes no form of an answer by the calls that are known of it",
            remedy="ask without a form, or open the bundle with Session.open on another backend",
        )


class NativeRuntime:
    """Edge-LLM's `LLMRuntime` over one directory of engines; one request at a time."""

    def __init__(self, module: Any, engines: Path) -> None:
        self.url = str(engines)
        self._module = module
        self._worker: threading.Thread | None = None
        try:
            self._runtime = module.LLMRuntime(str(engines), str(engines), {}, "", module.ContextCacheConfig())
            self._runtime.capture_decoding_cuda_graph()
        except RuntimeError as error:
            raise SessionError(
                f"{PACKAGE} cannot open {engines}: {error}", remedy="build the engines on this device again"
            ) from error

    def stream(self, path: str, body: Mapping[str, object], *, timeout_ms: float) -> "NativeStream":
        """Start a request. Raises `SessionError` where an earlier one has not come back."""
        if self._worker is not None:
            self._worker.join(timeout=timeout_ms / 1000)
            if self._worker.is_alive():
                raise SessionError(
                    f"{PACKAGE} has not come back from the request before",
                    remedy="end this process and start again: its call cannot be ended from outside",
                )
        channel = self._module.StreamChannel.create()
        channel.set_skip_special_tokens(False)
        stream = NativeStream(module=self._module, channel=channel, failures=[])
        request = self._request(body, channel)
        self._worker = threading.Thread(target=self._run, args=(request, stream), daemon=True)
        self._worker.start()
        return stream

    def _run(self, request: Any, stream: "NativeStream") -> None:
        try:
            self._runtime.handle_request(request)
        except RuntimeError as error:
            stream.failures.append(str(error))
            stream.channel.cancel()

    def _request(self, body: Mapping[str, Any], channel: Any) -> Any:
        module, sampling = self._module, body["sampling"]
        message = module.Message()
        message.role, message.has_content, message.content_is_array = "user", True, False
        message.contents = [module.MessageContent("text", body["text"])]
        one = module.Request(messages=[message])
        one.image_buffers = [self._image(pixels) for pixels in body["pictures"]]
        one.sampling_seed = sampling.seed
        request = module.LLMGenerationRequest()
        request.requests, request.stream_channels = [one], [channel]
        request.temperature = sampling.temperature or 1.0
        request.top_p = sampling.top_p
        request.top_k = 0 if sampling.temperature else 1
        request.max_generate_length = body["max_tokens"]
        request.apply_chat_template = request.add_generation_prompt = False
        request.skip_special_tokens = False
        return request

    def _image(self, pixels: Pixels) -> Any:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
        image = self._module.load_image_from_bytes(file.getvalue())
        image.do_resize = False
        return image


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeStream:
    """The tokens of one answer, as events of the shape that a server sends; `failures` are of its own thread."""

    module: Any
    channel: Any
    failures: list[str]

    def next(self, timeout_ms: float) -> Any | None:
        """The next event, or None after the last. Raises `StreamTimeout`, and `SessionError` where it failed."""
        end_ns = time.perf_counter_ns() + int(timeout_ms * 1e6)
        while True:
            left_ms = (end_ns - time.perf_counter_ns()) / 1e6
            chunk = self.channel.wait_pop(timeout_ms=int(max(0.0, min(_POLL_MS, left_ms))))
            if chunk is not None:
                return self._event(chunk)
            if self.failures or self.channel.is_cancelled():
                told = self.failures[0] if self.failures else "it was cancelled"
                raise SessionError(f"{PACKAGE} ended the answer: {told}", remedy="look at what it printed")
            if self.channel.is_finished():
                return None
            if left_ms <= 0:
                raise StreamTimeout

    def close(self) -> None:
        """Cancel it, from any thread; it ends between two tokens."""
        self.channel.cancel()

    def release(self) -> None:
        """Nothing more is wanted of it."""
        if not self.channel.is_finished():
            self.channel.cancel()

    def _event(self, chunk: Any) -> dict[str, Any]:
        reasons = self.module.FinishReason
        if chunk.finished and chunk.reason in (reasons.CANCELLED, reasons.ERROR):
            raise SessionError(f"{PACKAGE} ended the answer: {chunk.reason}", remedy="look at what it printed")
        reason = None
        if chunk.finished:
            reason = "length" if chunk.reason == reasons.LENGTH else "stop"
        event: dict[str, Any] = {
            "choices": [{"text": chunk.text, "token_ids": list(chunk.token_ids), "finish_reason": reason}]
        }
        if chunk.prompt_token_count >= 0:
            event["usage"] = {"prompt_tokens": chunk.prompt_token_count}
        return event


def load_native() -> Any:
    """Edge-LLM's native module. Raises `ToolError` where it is missing, of another release, or cannot be loaded."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(PACKAGE)
    except PackageNotFoundError as error:
        raise ToolError(f"{PACKAGE} is not installed here", remedy=f"pip install {PACKAGE}=={VERSION}") from error
    if found != VERSION:
        raise ToolError(
            f"{PACKAGE} {found} is installed, phiedge knows {VERSION}", remedy=f"pip install {PACKAGE}=={VERSION}"
        )
    try:
        return importlib.import_module("tensorrt_edgellm.runtime").load()
    except (ImportError, RuntimeError) as error:
        raise ToolError(
            f"{PACKAGE} has nothing that runs on this device: {error}",
            remedy="JetPack 7.2, or a device that its wheel lists; docs/guides/edge-llm.md",
        ) from error


def _engines(bundle: Bundle, directory: Path | None) -> Path:
    """Where the engines are. Raises `BundleError` where they are not all there."""
    engine = find_engine(bundle, BACKEND)
    if engine is None:
        raise BundleError(
            f"{bundle.path} has nothing for {BACKEND}", remedy=f"phiedge build {bundle.path} --backend {BACKEND}"
        )
    directory = directory or engine.path / ENGINES
    for name in _NEEDED:
        if not (directory / name).is_file():
            raise BundleError(
                f"{directory} has no {name}", remedy=f"run the commands in {engine.path}/checks.json on this device"
            )
    return directory
