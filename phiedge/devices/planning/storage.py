"""How a model's weights and cache are stored, and what that takes: bytes from facts and bits, nothing from a file.

The embedding table is looked up, never multiplied: it is mapped from the host's disk, and takes no memory of a card.
"""

from collections.abc import Callable
from dataclasses import dataclass

from phiedge.bundle import ModelFacts, Precision
from phiedge.devices.work import cache_bytes, layer_weights, vision_weights
from phiedge.errors import DeviceError

_BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4, "float8": 8, "nvfp4": 4}
_NVFP4_GROUP, _NVFP4_SCALE_BITS = 16, 8  # its scales are of 8 bits, for every 16 weights
# What multiplies: weights that are stored as integers are turned into float16 for the product.
_ARITHMETIC = {"float8": "fp8", "nvfp4": "nvfp4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Bits of one weight in each part, scales included, and of one number in the cache."""

    name: str
    arithmetic: str
    decoder_bits: float
    head_bits: float
    vision_bits: float
    embedding_bits: float
    cache_bits: float

    def __post_init__(self) -> None:
        assert min(self.decoder_bits, self.head_bits, self.vision_bits, self.embedding_bits, self.cache_bits) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes of one model's parts as stored; `position_bytes` is what one position takes in the cache."""

    decoder_bytes: int
    vision_bytes: int
    embedding_bytes: int
    position_bytes: int

    @property
    def weights_bytes(self) -> int:
        """What is multiplied by."""
        return self.decoder_bytes + self.vision_bytes


# What a bundle cannot be exported as yet, and a plan can be made for.
PLANNED_ONLY = {
    "int8": Precision(
        name="int8",
        vision="float16",
        projector="float16",
        decoder="int8",
        lm_head="int8",
        embed_tokens="bfloat16",
        norms="float32",
        group_size=128,
        codes=None,
        cache=None,
    ),
    "nvfp4": Precision(
        name="nvfp4",
        vision="float16",
        projector="float16",
        decoder="nvfp4",
        lm_head="float8",
        embed_tokens="bfloat16",
        norms="float32",
        group_size=_NVFP4_GROUP,
        codes=None,
        cache=None,
    ),
}


def storage_of(precision: Precision, *, activations: str, facts: ModelFacts | None = None) -> Storage:
    """The bits of a precision, as a manifest records it; scales of integers are of `activations`.

    So is a cache that the manifest names no type of. Linears that are wider than the others count where `facts` say how
    large they are.
    """
    scale_bits = _bits(activations)

    def bits(dtype: str) -> float:
        if dtype == "nvfp4":
            return _bits(dtype) + _NVFP4_SCALE_BITS / _NVFP4_GROUP
        grouped = dtype in ("int4", "int8") and precision.group_size is not None
        return _bits(dtype) + (scale_bits / precision.group_size if grouped and precision.group_size else 0)

    return Storage(
        name=precision.name,
        arithmetic="fp32" if activations == "float32" else _ARITHMETIC.get(precision.decoder, "fp16"),
        decoder_bits=bits(precision.decoder) + _wider_bits(precision, facts, bits),
        head_bits=bits(precision.lm_head),
        vision_bits=_bits(precision.vision),  # in 8 bits a scale for a whole row, which is below a hundredth
        embedding_bits=bits(precision.embed_tokens),
        cache_bits=scale_bits if precision.cache is None else _bits(precision.cache),
    )


def _wider_bits(precision: Precision, facts: ModelFacts | None, bits: Callable[[str], float]) -> float:
    """What wider linears add to the bits of a weight of the layers, on average."""
    if facts is None or not precision.wider:
        return 0.0
    of_heads, inner = facts.hidden_size * facts.head_dim, facts.hidden_size * facts.intermediate_size
    weights = {
        "qkv_proj": of_heads * (facts.num_heads + 2 * facts.num_kv_heads),
        "o_proj": of_heads * facts.num_heads,
        "gate_up_proj": 2 * inner,
        "down_proj": inner,
    }
    more = (
        weights[name.removesuffix(".weight").rpartition(".")[2]] * (bits(stored_as) - bits(precision.decoder))
        for name, stored_as in precision.wider.items()
    )
    return sum(more) / (facts.num_layers * layer_weights(facts))


def sizes_of(facts: ModelFacts, storage: Storage) -> Sizes:
    """What a model of these facts takes."""
    layers, head = facts.num_layers * layer_weights(facts), facts.vocab_size * facts.hidden_size
    return Sizes(
        decoder_bytes=round((layers * storage.decoder_bits + head * storage.head_bits) / 8),
        vision_bytes=round(vision_weights(facts) * storage.vision_bits / 8),
        embedding_bytes=round(head * storage.embedding_bits / 8),
        position_bytes=cache_bytes(facts, positions=1, item_bytes=round(storage.cache_bits / 8)),
    )


def _bits(dtype: str) -> int:
    if dtype not in _BITS:
        raise DeviceError(f"nothing is known of weights stored as {dtype!r}", remedy=f"known: {', '.join(_BITS)}")
    return _BITS[dtype]
