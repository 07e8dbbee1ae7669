from dataclasses import replace

import pytest

from phiedge.bundle import Manifest
from phiedge.errors import BundleError


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_layers": 0}, "num_layers must be at least 1, not 0"),
        ({"num_heads": 3, "num_kv_heads": 2}, "num_heads 3 is not a multiple of num_kv_heads 2"),
        ({"head_dim": 3}, "head_dim must be even"),
        ({"vision_heads": 3}, "vision_hidden_size 4 is not a multiple of vision_heads 3"),
        ({"min_num_patches": 9}, "min_num_patches 9 is above max_num_patches 4"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps must be above 0"),
        ({"rope_theta": -1.0}, "rope_theta must be above 0"),
        ({"eos_token_ids": ()}, "eos_token_ids is empty"),
        ({"eos_token_ids": (1, 16)}, r"eos_token_ids\[1\] 16 is outside the vocabulary of 16 tokens"),
        ({"think_token_id": -1}, "think_token_id -1 is outside the vocabulary"),
    ],
)
def test_facts_that_do_not_hold_together_are_refused(
    plain_manifest: Manifest, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(BundleError, match=complaint):
        replace(plain_manifest.facts, **changes)


@pytest.mark.parametrize(("key", "value"), [("temperature", 0.0), ("top_p", 0.0), ("top_p", 1.5)])
def test_sampling_defaults_that_cannot_be_are_refused(plain_manifest: Manifest, key: str, value: float) -> None:
    with pytest.raises(BundleError, match=key):
        replace(plain_manifest.facts.generation, **{key: value})
