"""The configurations that Edge-LLM's builder and runtime read on the device, beside the two graphs.

Its runtime chooses the code for pictures by a closed list of model types. The only one of them with this encoder is
Cosmos3-Edge, so that the vision graph goes by that name. What differs is said here: one token for each patch
(`merge_size` 1), and positions that simply count up. That runtime wants three counters for rotary positions; where no
token says "a picture begins", all three are the ordinary one, so the ids of such tokens are -1 and the shares of the
counters do not matter. None of this has run on a device (docs/guides/edge-llm.md).
"""

import json
from pathlib import Path
from typing import Any

from phiedge.bundle import ModelFacts
from phiedge.engines.edge_llm.versions import PACKAGE, VERSION
from phiedge.errors import ToolOutputError

RUNNER = "cosmos3_edge_vision"
NEVER = -1
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


def patch_language_config(path: Path, facts: ModelFacts, *, image_token_id: int) -> None:
    """Add to the exporter's `llm/config.json` what pictures need. Raises `ToolOutputError` for another model's."""
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ToolOutputError(f"{path} cannot be read: {error}", remedy="run the build again") from error
    _check(path, config, facts)
    scaling = config.get("rope_scaling") or {}
    config |= {
        "image_token_id": image_token_id,
        "rope_scaling": scaling | {"type": "default", "rope_type": "default", "mrope_section": sections(facts)},
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_visual_configs(directory: Path, facts: ModelFacts, *, image_token_id: int) -> None:
    """Write `config.json` and `preprocessor_config.json` beside the vision graph."""
    config = {
        "edgellm_version": VERSION,
        "image_token_id": image_token_id,
        "model_type": RUNNER,
        "rope_scaling": {"mrope_section": sections(facts), "rope_type": "default", "type": "default"},
        "rope_theta": facts.rope_theta,
        "text_config": {
            "hidden_size": facts.hidden_size,
            "rope_scaling": {"mrope_section": sections(facts), "rope_type": "default", "type": "default"},
            "rope_theta": facts.rope_theta,
            "vocab_size": facts.vocab_size,
        },
        "video_token_id": NEVER,
        "vision_config": {
            "hidden_size": facts.vision_hidden_size,
            "intermediate_size": facts.vision_intermediate_size,
            "model_type": RUNNER,
            "num_attention_heads": facts.vision_heads,
            "num_channels": 3,
            "num_hidden_layers": facts.vision_layers_used,
            "num_patches": facts.position_grid**2,
            "out_hidden_size": facts.hidden_size,
            "patch_size": facts.patch_size,
            "spatial_merge_size": 1,
        },
        "vision_end_token_id": NEVER,
        "vision_start_token_id": NEVER,
        "vocab_size": facts.vocab_size,
    }
    half = [0.5, 0.5, 0.5]
    preprocessor = {"image_mean": half, "image_std": half, "merge_size": 1, "patch_size": facts.patch_size}
    for name, value in ((CONFIG, config), (PREPROCESSOR, preprocessor)):
        (directory / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def sections(facts: ModelFacts) -> list[int]:
    """How the pairs of a head are shared between three counters that are all the same: multiples of 8, as it wants."""
    pairs = facts.head_dim // 2
    share = pairs // 32 * 8
    return [pairs - 2 * share, share, share]


def device_commands(facts: ModelFacts, *, pictures: int, context: int) -> tuple[str, ...]:
    """What builds the engines on the device. Its vision builder counts four patches to a token, this model has one."""
    most = -(-facts.max_num_patches // 4)
    least = max(1, facts.min_num_patches // 4)
    return (
        f"llm_build --onnxDir llm --engineDir engines --maxInputLen {context} --maxKVCacheCapacity {context} "
        "--maxBatchSize 1",
        f"visual_build --onnxDir visual --engineDir engines --minImageTokens {least} "
        f"--maxImageTokens {most * pictures} --maxImageTokensPerImage {most}",
    )


def _check(path: Path, config: Any, facts: ModelFacts) -> None:
    wanted = {
        "edgellm_version": VERSION,
        "head_dim": facts.head_dim,
        "hidden_size": facts.hidden_size,
        "kv_cache_dtype": "fp16",
        "num_attention_heads": facts.num_heads,
        "num_key_value_heads": facts.num_kv_heads,
        "rope_theta": facts.rope_theta,
        "vocab_size": facts.vocab_size,
    }
    for key, value in wanted.items():
        found = config.get(key) if isinstance(config, dict) else None
        if found != value:
            raise ToolOutputError(
                f"{path}: {key} is {found!r}, the model has {value!r}",
                remedy=f"use {PACKAGE} {VERSION} on the checkpoint that phiedge writes",
            )
    if set(config.get("eos_token_id") or []) != set(facts.eos_token_ids):
        raise ToolOutputError(
            f"{path}: answers end at {config.get('eos_token_id')}, the model ends them at {list(facts.eos_token_ids)}",
            remedy=f"use {PACKAGE} {VERSION} on the checkpoint that phiedge writes",
        )
