"""The decoder graph's inputs and outputs by name, and how it is held against the model's facts."""

from pathlib import Path
from typing import Any

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.onnxruntime.graph_run import GraphRun, Shape, float_type, mismatch
from phiedge.engines.onnxruntime.library import ort

_INT32, _INT8 = "tensor(int32)", "tensor(int8)"


def cache_names(layers: int) -> list[str]:
    """The caches in the graph's order: `0.key`, `0.value`, `1.key`, ...; bound as `past.*` and as `present.*`."""
    return [f"{layer}.{side}" for layer in range(layers) for side in ("key", "value")]


def bind_in_place(
    binding: ort.IOBinding, *, inputs: dict[str, ort.OrtValue], caches: dict[str, ort.OrtValue], logits: ort.OrtValue
) -> None:
    """Bind all but the rows: `inputs` by their names, `caches` as past and as present alike, and the logits.

    Outputs are then the logits, key and value of layer 0, key and value of layer 1, and so on.
    """
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in caches.items():
        binding.bind_ortvalue_input(f"past.{name}", value)
    binding.bind_ortvalue_output("logits", logits)
    for name, value in caches.items():
        binding.bind_ortvalue_output(f"present.{name}", value)


def check_decoder(
    run: GraphRun, path: Path, facts: ModelFacts, *, cache_type: str | None
) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Hold the graph against the facts; returns the types of its input rows and of its cache. Raises `BundleError`.

    `cache_type` is what the manifest says of the cache: "int8", or None for the type that the graph computes in.
    """
    cache = (1, facts.num_kv_heads, None, facts.head_dim)
    names = cache_names(facts.num_layers)
    inputs: dict[str, Shape] = {
        "inputs_embeds": (1, None, facts.hidden_size),
        "seqlens_k": (1,),
        "total_sequence_length": (),
    }
    inputs |= {f"past.{name}": cache for name in names}
    outputs: dict[str, Shape] = {"logits": (1, 1, facts.vocab_size)}
    outputs |= {f"present.{name}": cache for name in names}
    types = run.check(inputs=inputs, outputs=outputs)
    for name in ("seqlens_k", "total_sequence_length"):
        if types[name] != _INT32:
            raise mismatch(path, f"{name} is {types[name]}", f"{name} as {_INT32}")
    if float_type(path, types, "logits") != np.float32:
        raise mismatch(path, f"logits is {types['logits']}", "logits as tensor(float)")
    caches = [f"{time}.{name}" for time in ("past", "present") for name in names]
    rows = float_type(path, types, "inputs_embeds")
    if cache_type is None:
        return rows, float_type(path, types, *caches)
    for name in caches:
        if types[name] != _INT8:
            raise mismatch(path, f"{name} as {types[name]}", f"{name} as {_INT8}, as the manifest has it")
    return rows, np.dtype(np.int8)
