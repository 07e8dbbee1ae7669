"""How a server is told the form of an answer.

A server constrains from the first token on, so the thinking must be skipped. What it understands of a schema, and how
it spaces JSON, is its own: the text that comes back is checked by the same grammar as an answer of `Session`. Sources:
`protocol.py` and `sampling_params.py` of vLLM, where `structured_outputs` came with 0.11 and keys that are not known
are ignored; `openai_protocol.py` of TensorRT-LLM, the same from 1.0 to 1.3.
"""

import json
from typing import Any

from phiedge.errors import UsageError
from phiedge.runtime.forms.form import ChoiceForm, Form
from phiedge.runtime.remote.bodies import Kind

REMEDIES: dict[str, str] = {
    "vllm": "serve with vLLM 0.11 or later",
    "tensorrt_llm": "start trtllm-serve with guided_decoding_backend: llguidance (or xgrammar) in its --config file",
}
_SPECIAL = frozenset("\\.+*?()|[]{}^$/")


def constraint(form: Form, kind: Kind) -> dict[str, Any]:
    """The keys of a request that ask for `form`. Raises `UsageError` for a form that a server has no key for."""
    grammar, text = form.grammar
    if isinstance(form, ChoiceForm):
        alternatives = "|".join(map(_literally, form.choices))
        return _of_vllm("choice", list(form.choices)) if kind == "vllm" else _of_tensorrt_llm("regex", alternatives)
    if grammar == "json":
        schema = json.loads(text)
        if kind == "vllm":
            return _of_vllm("json", schema)
        return {"response_format": {"type": "json", "schema": schema}}
    if grammar == "regex":
        return _of_vllm("regex", text) if kind == "vllm" else _of_tensorrt_llm("regex", text)
    raise UsageError(
        f"no server keeps a {form.name}, whose grammar is of the kind {grammar!r}",
        remedy="give a schema, choices or a pattern, or open the bundle with Session.open",
    )


def _of_vllm(key: str, value: object) -> dict[str, Any]:
    return {"structured_outputs": {key: value}}


def _of_tensorrt_llm(key: str, value: object) -> dict[str, Any]:
    return {"response_format": {"type": key, key: value}}


def _literally(choice: str) -> str:
    """A regular expression that matches only `choice`."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in choice)
