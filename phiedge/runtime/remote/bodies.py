"""What is sent to a server: the prompt as token ids, or a conversation with pictures.

A prompt without pictures goes as the ids that `Session` itself would compute, so that template and tokenizer are ours.
With pictures it goes as a conversation, since a server takes pictures only so; vLLM then renders the checkpoint's own
template and puts pictures where `<image>` stands. The extra keys are vLLM's; TensorRT-LLM refuses keys that it does not
know. Sources: `protocol.py` of vLLM's OpenAI entry point and `openai_protocol.py` of TensorRT-LLM.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from phiedge.runtime.prompt import IMAGE_PLACEHOLDER, Prompt
from phiedge.runtime.request import Request

Kind: TypeAlias = Literal["vllm", "tensorrt_llm"]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def completion(request: Request, prompt: Prompt, *, model: str, kind: Kind, max_tokens: int) -> dict[str, Any]:
    """The body for a prompt without pictures."""
    (tokens,) = prompt.pieces
    return {"prompt": list(tokens), "add_special_tokens": False} | _options(request, model, kind, max_tokens)


def conversation(
    request: Request,
    pictures: Sequence[npt.NDArray[np.uint8]],
    *,
    model: str,
    kind: Kind,
    max_tokens: int,
    opening: str,
) -> dict[str, Any]:
    """The body for a prompt with pictures; `opening` is what the answer begins with, to set the mode."""
    texts = [request.prompt, *(message["content"] for message in request.history)]
    question = request.prompt
    if not any(IMAGE_PLACEHOLDER in text for text in texts):
        question = f"{IMAGE_PLACEHOLDER}\n" * len(pictures) + question
    content = [{"type": "text", "text": question}]
    parts = [{"type": "image_url", "image_url": {"url": data_url(pixels)}} for pixels in pictures]
    messages: list[dict[str, Any]] = [
        *(dict(message) for message in request.history),
        {"role": "user", "content": [*content, *parts]},
    ]
    body: dict[str, Any] = {"messages": messages}
    if opening:
        messages.append({"role": "assistant", "content": opening})
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    return body | _options(request, model, kind, max_tokens)


def data_url(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture [h, w, 3] as PNG in a URL; nothing of it is lost."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _options(request: Request, model: str, kind: Kind, max_tokens: int) -> dict[str, Any]:
    sampling = request.sampling
    options: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }
    if sampling.seed is not None:
        options["seed"] = sampling.seed
    return options | {"return_token_ids": True} if kind == "vllm" else options
