"""Checkpoints that the exporter accepts and corrupts without an error; each is refused before it runs.

What was seen of release 0.11.0, on small checkpoints of which the right answer is known:

- AWQ whose query, key and value, or gate and up projections are in one tensor: the first stay at their defaults, the
  second are cut along the wrong axis.
- compressed-tensors, of any kind: codes and scales are skipped.
- AWQ with zero points other than the middle: shifted codes are clipped to four bits.
- a model with pictures of a type that it does not know: only the decoder is exported.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phiedge.engines.edge_llm.versions import GROUP_SIZE, PACKAGE, VERSION
from phiedge.errors import CheckpointError, FormatError

_FUSED = (".qkv_proj.", ".gate_up_proj.")
_VISION = ("vision", "visual", "mm_projector", "multi_modal_projector", "image_newline")
_REMEDY = "give the bundle to phiedge, which writes the checkpoint that the exporter reads rightly"


def check_safe(checkpoint: Path) -> int:
    """How many tensors `checkpoint` has, if the exporter is known to read it rightly.

    Raises `FormatError` for one that it would corrupt, `CheckpointError` for a directory that holds none.
    """
    config = _config(checkpoint)
    names = list(_names(checkpoint))
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    told = f"{PACKAGE} {VERSION} would corrupt {checkpoint} and report success"
    if seeing := [name for name in names if any(part in name for part in _VISION)]:
        raise FormatError(
            f"{PACKAGE} {VERSION} would lose the eyes of {checkpoint} and report success: "
            f"it skips {seeing[0]} and {len(seeing) - 1} more tensors of vision",
            remedy=_REMEDY,
        )
    if method == "compressed-tensors":
        raise FormatError(f"{told}: it skips the codes and scales of compressed-tensors", remedy=_REMEDY)
    if method != "awq" or not isinstance(quantization, dict):
        raise FormatError(
            f"{checkpoint} is quantised as {method!r}; for Edge-LLM on Orin phiedge has checked 'awq' alone",
            remedy=_REMEDY,
        )
    if fused := [name for name in names if any(part in name for part in _FUSED)]:
        raise FormatError(
            f"{told}: {fused[0]} holds several projections, which it cuts along the wrong axis", remedy=_REMEDY
        )
    if (found := quantization.get("group_size")) != GROUP_SIZE or quantization.get("bits") != 4:
        raise FormatError(
            f"{checkpoint} has {quantization.get('bits')} bits in groups of {found}, "
            f"its kernels take 4 and {GROUP_SIZE}",
            remedy=f"export the bundle with groups of {GROUP_SIZE}",
        )
    return len(names)


def _config(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", remedy="write the checkpoint again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object", remedy="write the checkpoint again")
    return config


def _names(checkpoint: Path) -> Iterator[str]:
    """The tensors of every safetensors file, from the headers."""
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{checkpoint} has no safetensors file", remedy="write the checkpoint again")
    for path in files:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(min(length, 100_000_000)))
            except ValueError as error:
                raise CheckpointError(f"{path} is no safetensors file: {error}", remedy="write it again") from error
        yield from (name for name in header if name != "__metadata__")
