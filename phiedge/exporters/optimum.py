"""The architecture as Hugging Face Optimum knows architectures: an exporter configuration, and its registration.

    from phiedge.exporters.optimum import register
    register()
    build = TasksManager.get_exporter_config_constructor(
        "phiedge", model_type="phi4-siglip", task="image-text-to-text", library_name="transformers"
    )
    build(config).inputs

It tells Optimum what `phiedge.exporters.graph_io` states and adds nothing of its own. Optimum's base package is enough;
why optimum-onnx is not used stands in docs/decisions/0202-why-optimum-without-optimum-onnx.md. Importing this imports
Optimum, transformers and torch.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch

from phiedge.errors import ConfigError, MissingExtraError, UsageError
from phiedge.exporters.config import MODEL_TYPE, ModelConfig
from phiedge.exporters.graph_io import CAPACITY, CHUNK, PATCHES, GraphIO, Port, decoder_io, vision_io

try:
    from optimum.exporters.base import ExporterConfig
except ImportError as error:
    raise MissingExtraError(what="the bridge to Optimum", extra="export", missing=error.name) from error

Part: TypeAlias = Literal["vision", "decoder"]

BACKEND = "phiedge"
TASK = "image-text-to-text"
_FLOATS = {"fp32": torch.float32, "fp16": torch.float16}
# Small and unequal, so that a graph which mixes two axes up, or bakes one in, fails at once.
_DUMMY_SIZES = {PATCHES: 6, CHUNK: 5, CAPACITY: 11}


def register() -> None:
    """Make Optimum's `TasksManager` know the architecture under the backend "phiedge"."""
    from optimum.exporters.tasks import TasksManager  # takes seconds to import

    TasksManager.create_register(BACKEND, overwrite_existing=True)(MODEL_TYPE, TASK)(Phi4SiglipExporterConfig)


def _as_model_config(config: Any) -> ModelConfig:
    """What Optimum passes: a configuration of ours, a mapping, or a transformers configuration with `to_dict`."""
    if isinstance(config, ModelConfig):
        return config
    values = config if isinstance(config, Mapping) else config.to_dict() if hasattr(config, "to_dict") else None
    if values is None:
        raise ConfigError(
            f"a {type(config).__name__} is not a model configuration", remedy="pass the contents of config.json"
        )
    return ModelConfig.from_json(dict(values))


class Phi4SiglipExporterConfig(ExporterConfig):
    """Inputs, outputs and dummy inputs of the two graphs; `part` says of which, the decoder if nothing is said."""

    NORMALIZED_CONFIG_CLASS = staticmethod(_as_model_config)
    ATOL_FOR_VALIDATION = 1e-3  # of float32 logits against the publisher's own code

    def __init__(
        self,
        config: Any,
        task: str = TASK,
        *,
        part: Part = "decoder",
        int_dtype: str = "int32",
        float_dtype: str = "fp32",
    ) -> None:
        if task != TASK or part not in ("vision", "decoder") or int_dtype != "int32" or float_dtype not in _FLOATS:
            raise UsageError(
                f"no {part} graph for task {task!r} with {int_dtype} and {float_dtype}",
                remedy=f"task={TASK!r}, part='vision' or 'decoder', int_dtype='int32', float_dtype='fp32' or 'fp16'",
            )
        super().__init__(config, task, int_dtype=int_dtype, float_dtype=float_dtype)
        self.graph_io: GraphIO = (vision_io if part == "vision" else decoder_io)(self._normalized_config)

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Input name to its dynamic axes, in the graph's order."""
        return {port.name: port.dynamic_axes for port in self.graph_io.inputs}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Output name to its dynamic axes, in the graph's order."""
        return {port.name: port.dynamic_axes for port in self.graph_io.outputs}

    @property
    def values_override(self) -> None:
        """Nothing in the configuration is overridden for an export."""
        return

    def generate_dummy_inputs(self, framework: str = "pt", **sizes: int) -> dict[str, torch.Tensor]:
        """Zeros for every input, of the sizes that are given by axis: `patches`, `chunk_tokens`, `capacity`.

        The lengths describe a first chunk: as many positions as it has tokens.
        """
        unknown = sorted(sizes.keys() - _DUMMY_SIZES.keys())
        if framework != "pt" or unknown:
            raise UsageError(
                f"no dummy inputs for framework {framework!r} with sizes for {unknown}",
                remedy=f"use framework='pt' and sizes for {', '.join(_DUMMY_SIZES)}",
            )
        chosen = _DUMMY_SIZES | sizes
        return {port.name: self._dummy(port, chosen) for port in self.graph_io.inputs}

    def _dummy(self, port: Port, sizes: Mapping[str, int]) -> torch.Tensor:
        if port.name == "seqlens_k":
            return torch.full(port.sized(sizes), sizes[CHUNK] - 1, dtype=torch.int32)
        if port.name == "total_sequence_length":
            return torch.full(port.sized(sizes), sizes[CHUNK], dtype=torch.int32)
        assert port.dtype == "float", port
        return torch.zeros(port.sized(sizes), dtype=_FLOATS[self.float_dtype])
