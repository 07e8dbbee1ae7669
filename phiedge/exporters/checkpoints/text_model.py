"""The decoder as the plain text model that other engines know: a Llama, with separate q, k, v, gate and up.

Phi-3's decoder is a Llama's whose projections lie in one tensor each; cutting rows apart changes no number. Readers of
NVIDIA's either cannot load the fused tensors quantised, or do so wrongly (docs/decisions/0941).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from phiedge.bundle import Bundle, ModelFacts
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.stored import GroupedLinear, StoredWeights

LAYER = "model.layers.{}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A linear as the text model calls it: `rows` of the stored linear `stored`."""

    name: str
    stored: str
    rows: slice

    @property
    def count(self) -> int:
        """How many rows."""
        return int(self.rows.stop - self.rows.start)


def parts_of_layer(facts: ModelFacts, layer: int) -> Iterator[Part]:
    """The seven linears of one layer, in the order of the forward pass; names end before `.weight`."""
    prefix = LAYER.format(layer)
    heads, kv = facts.num_heads * facts.head_dim, facts.num_kv_heads * facts.head_dim
    qkv, gate_up = f"{prefix}self_attn.qkv_proj.weight", f"{prefix}mlp.gate_up_proj.weight"
    width = facts.intermediate_size
    cuts = (
        ("self_attn.q_proj", qkv, 0, heads),
        ("self_attn.k_proj", qkv, heads, heads + kv),
        ("self_attn.v_proj", qkv, heads + kv, heads + 2 * kv),
        ("self_attn.o_proj", f"{prefix}self_attn.o_proj.weight", 0, facts.hidden_size),
        ("mlp.gate_proj", gate_up, 0, width),
        ("mlp.up_proj", gate_up, width, 2 * width),
        ("mlp.down_proj", f"{prefix}mlp.down_proj.weight", 0, facts.hidden_size),
    )
    for name, stored, start, stop in cuts:
        yield Part(name=prefix + name, stored=stored, rows=slice(start, stop))


def llama_config(facts: ModelFacts, *, dtype: str) -> dict[str, object]:
    """`config.json` of the text model, without what a format says about quantisation."""
    eos = facts.eos_token_ids
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": facts.bos_token_id,
        "eos_token_id": eos[0] if len(eos) == 1 else list(eos),
        "head_dim": facts.head_dim,
        "hidden_act": "silu",
        "hidden_size": facts.hidden_size,
        "intermediate_size": facts.intermediate_size,
        "max_position_embeddings": facts.max_position_embeddings,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": facts.num_heads,
        "num_hidden_layers": facts.num_layers,
        "num_key_value_heads": facts.num_kv_heads,
        "pad_token_id": facts.pad_token_id,
        "rms_norm_eps": facts.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": facts.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": facts.vocab_size,
    }


def decoder_weights(bundle: Bundle) -> StoredWeights:
    """The weights of a bundle's decoder; all dialects share them."""
    dialects = bundle.manifest.dialects
    return StoredWeights(bundle, dialects["ort" if "ort" in dialects else next(iter(dialects))].decoder)


def require_int4(bundle: Bundle, weights: StoredWeights, what: str, *, groups: tuple[int, ...]) -> int:
    """The group size of a bundle whose layers are int4 throughout, in one of `groups`. Raises `FormatError`."""
    precision = bundle.manifest.precision
    check_int4(precision.decoder, precision.group_size, what, groups=groups, where=str(bundle.path))
    assert precision.group_size is not None
    for layer in range(bundle.manifest.facts.num_layers):
        for part in parts_of_layer(bundle.manifest.facts, layer):
            found = weights.grouped(part.stored)
            if found is None or found.bits != 4 or found.group_size != precision.group_size:
                raise FormatError(
                    f"{what} holds int4 weights in groups of {precision.group_size}, {part.stored} is {_told(found)}",
                    remedy="export without mixed precision for this format",
                )
    return precision.group_size


def require_float8(bundle: Bundle, weights: StoredWeights, what: str) -> None:
    """See that layers are 8-bit floats throughout, for a device that multiplies them. Raises `FormatError`."""
    if bundle.manifest.target.get("sm") == "8.7":
        raise FormatError(
            f"{bundle.path} is FP8, which its device, Orin (SM 8.7), does not multiply",
            remedy="export with --precision int4",
        )
    for layer in range(bundle.manifest.facts.num_layers):
        for part in parts_of_layer(bundle.manifest.facts, layer):
            if weights.float8(part.stored) is None:
                raise FormatError(
                    f"{what} holds 8-bit floats, {part.stored} is stored otherwise",
                    remedy="export without mixed precision for this format",
                )


def has_tensor_scales(bundle: Bundle) -> bool:
    """Whether every linear of the layers is of 8-bit floats under one scale, the fused ones as a whole."""
    if bundle.manifest.precision.decoder != "float8":
        return False
    weights = decoder_weights(bundle)
    layers = range(bundle.manifest.facts.num_layers)
    stored = dict.fromkeys(part.stored for layer in layers for part in parts_of_layer(bundle.manifest.facts, layer))
    found = (weights.float8(name) for name in stored)
    return all(linear is not None and weights.one_scale(linear) is not None for linear in found)


def check_int4(decoder: str, group_size: int | None, what: str, *, groups: tuple[int, ...], where: str) -> None:
    """See that the format `what` holds weights of this type in groups of this size. Raises `FormatError`."""
    if decoder != "int4" or group_size is None:
        raise FormatError(
            f"{what} holds int4 weights, the decoder of {where} is {decoder}",
            remedy="export with --precision int4, or choose a format for these weights",
        )
    if group_size not in groups:
        wanted = " or ".join(map(str, groups))
        raise FormatError(
            f"{what} is read in groups of {wanted} weights, {where} has groups of {group_size}: its readers would "
            "misread them",
            remedy="export for a device with a GPU, such as --target orin, which has groups of 128",
        )


def _told(found: GroupedLinear | None) -> str:
    return "stored otherwise" if found is None else f"int{found.bits} in groups of {found.group_size}"
