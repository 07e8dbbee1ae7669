"""Checkpoints that the exporter accepts and corrupts without an error; each is refused before it runs.

What was seen of release 0.11.0 on small checkpoints of which the right answer is known: fused projections and zero
points of AWQ, and compressed-tensors of any kind, for which the rules are `phiedge.exporters.checkpoints`'s; and a
model with pictures of a type that it does not know, of which it exports the decoder alone, which is refused here.
"""

import json
from pathlib import Path

from phiedge.engines.edge_llm.versions import PACKAGE, VERSION
from phiedge.errors import CheckpointError, FormatError
from phiedge.exporters.checkpoints.readers import EDGE_LLM, ORIN_SM, check_readable
from phiedge.exporters.checkpoints.tensor_index import tensor_index

_VISION = ("vision", "visual", "mm_projector", "multi_modal_projector", "image_newline")
_REMEDY = "give the bundle to phiedge, which writes the checkpoint that the exporter reads rightly"


def check_safe(checkpoint: Path) -> int:
    """How many tensors `checkpoint` has, if the exporter is known to read it rightly.

    Raises `FormatError` for one that it would corrupt or that holds no tensors, `CheckpointError` without a
    configuration.
    """
    method = _method(checkpoint)
    names = tensor_index(checkpoint)
    if seeing := [name for name in names if any(part in name for part in _VISION)]:
        raise FormatError(
            f"{PACKAGE} {VERSION} would lose the eyes of {checkpoint} and report success: "
            f"it skips {seeing[0]} and {len(seeing) - 1} more tensors of vision",
            remedy=_REMEDY,
        )
    check_readable(checkpoint, EDGE_LLM, sm=ORIN_SM)
    if method != "awq":
        raise FormatError(
            f"{checkpoint} is quantised as {method!r}; for Edge-LLM on Orin phiedge has checked 'awq' alone",
            remedy=_REMEDY,
        )
    return len(names)


def _method(checkpoint: Path) -> object:
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", remedy="write the checkpoint again") from error
    said = config.get("quantization_config") if isinstance(config, dict) else None
    return said.get("quant_method") if isinstance(said, dict) else None
