"""What a runtime must know about the model in a bundle, so that it never opens a checkpoint.

The names follow the architecture, not the spelling of any `config.json`; `phiedge.exporters` maps one to the other.
"""

from dataclasses import dataclass

from phiedge.errors import BundleError

_COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "publisher_max_length",
    "vision_hidden_size",
    "vision_layers_used",
    "vision_heads",
    "vision_intermediate_size",
    "patch_size",
    "position_grid",
    "min_num_patches",
    "max_num_patches",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The publisher's sampling defaults; phiedge itself is greedy unless it is asked."""

    do_sample: bool
    temperature: float
    top_p: float

    def __post_init__(self) -> None:
        _require(self.temperature > 0, f"temperature must be above 0, not {self.temperature}")
        _require(0 < self.top_p <= 1, f"top_p must be in (0, 1], not {self.top_p}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Shapes, limits and special token ids of one model of the architecture.

    `vision_layers_used` counts the blocks that run, which is one less than the checkpoint has; `position_grid` is the
    side of the square table of position embeddings; `publisher_max_length` is where the publisher's own code cuts a
    prompt with pictures. Sizes are in elements, lengths in tokens, patches in number of patches.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    publisher_max_length: int
    vision_hidden_size: int
    vision_layers_used: int
    vision_heads: int
    vision_intermediate_size: int
    patch_size: int
    position_grid: int
    min_num_patches: int
    max_num_patches: int
    bos_token_id: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    think_token_id: int
    end_think_token_id: int
    nothink_token_id: int
    generation: Generation

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        _require(self.rms_norm_eps > 0, f"rms_norm_eps must be above 0, not {self.rms_norm_eps}")
        _require(self.rope_theta > 0, f"rope_theta must be above 0, not {self.rope_theta}")
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}",
        )
        _require(self.head_dim % 2 == 0, f"head_dim must be even for rotary positions, not {self.head_dim}")
        _require(
            self.vision_hidden_size % self.vision_heads == 0,
            f"vision_hidden_size {self.vision_hidden_size} is not a multiple of vision_heads {self.vision_heads}",
        )
        _require(
            self.min_num_patches <= self.max_num_patches,
            f"min_num_patches {self.min_num_patches} is above max_num_patches {self.max_num_patches}",
        )
        self._check_token_ids()

    def _check_token_ids(self) -> None:
        _require(len(self.eos_token_ids) > 0, "eos_token_ids is empty: an answer could not end")
        named = {
            "bos_token_id": self.bos_token_id,
            "pad_token_id": self.pad_token_id,
            "think_token_id": self.think_token_id,
            "end_think_token_id": self.end_think_token_id,
            "nothink_token_id": self.nothink_token_id,
        } | {f"eos_token_ids[{index}]": token for index, token in enumerate(self.eos_token_ids)}
        for name, token in named.items():
            _require(
                0 <= token < self.vocab_size, f"{name} {token} is outside the vocabulary of {self.vocab_size} tokens"
            )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise BundleError(f"the model's facts do not hold together: {message}", remedy="export the bundle again")
