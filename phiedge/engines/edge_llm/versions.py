"""The release of the exporter that phiedge knows, and the graph of a decoder that it writes.

Its dialect changed with nearly every release: inputs, operators and their attributes. So one release is named, others
are refused, and what the named one wrote is held against this page; a new release needs a new entry here, made from
graphs that it wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from phiedge.bundle import ModelFacts
from phiedge.bundle.graph_file import GraphValue

PACKAGE, VERSION = "tensorrt-edgellm", "0.11.0"
REQUIREMENT = f"{PACKAGE}[export]=={VERSION}"
DOMAIN = "trt_edgellm"
PAGE_TOKENS = 128  # of the cache of keys and values, which the device pages
GROUP_SIZE = 128
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_PORTS = (
    ("rope_rotary_cos_sin", "float32", ("physical_tokens", "{head_dim}")),
    ("positions", "int32", ("physical_tokens",)),
    ("query_start_offsets", "int32", ("num_sequences + 1",)),
    ("query_lengths", "int32", ("num_sequences",)),
    ("past_lengths", "int32", ("num_sequences",)),
    ("attention_sequence_lengths", "int32", ("num_sequences",)),
    ("state_indices", "int32", ("num_sequences",)),
    ("execution_phase_marker", "int32", ("execution_phase_extent",)),
    ("context_sequence_count_carrier", "int32", ("num_context_sequences",)),
    ("kv_page_table", "int32", ("num_sequences", 2, "max_pages_per_seq")),
    ("logits_indices", "int64", ("num_sequences",)),
)
# Attributes of one integer that change what attention computes, besides the three sizes.
_ATTENTION = {
    "enable_attention_sink": 0,
    "enable_contiguous_query_swa": 0,
    "enable_fp8_kv_cache": 0,
    "enable_kv_shared": 0,
    "enable_qk_norm": 0,
    "enable_tree_attention": 0,
    "enable_vision_block_attention": 0,
    "sliding_window_size": -1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGraph:
    """What the exporter's graph of a decoder has to be: ports, operators of its own, and attributes of attention."""

    opsets: Mapping[str, int]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    plugins: Mapping[str, int]
    attention: Mapping[str, int]


def expected_graph(facts: ModelFacts, *, layers: int) -> ExpectedGraph:
    """The graph of a decoder of `layers` layers with int4 weights in groups of 128 and a head in float16."""
    cache = (2, "num_pages", PAGE_TOKENS, facts.num_kv_heads, facts.head_dim)
    embeds = GraphValue(name="inputs_embeds", dtype="float16", shape=("physical_tokens", facts.hidden_size))
    logits = GraphValue(name="logits", dtype="float32", shape=("num_sequences", facts.vocab_size))
    others = [
        GraphValue(
            name=name,
            dtype=dtype,
            shape=tuple(facts.head_dim if side == "{head_dim}" else side for side in shape),
        )
        for name, dtype, shape in _PORTS
    ]
    past, present = (
        [GraphValue(name=f"{kind}_key_values_{layer}", dtype="float16", shape=cache) for layer in range(layers)]
        for kind in ("past", "present")
    )
    sizes = {"num_q_heads": facts.num_heads, "num_kv_heads": facts.num_kv_heads, "head_size": facts.head_dim}
    return ExpectedGraph(
        opsets={"": 24, DOMAIN: 1},
        inputs=(embeds, *past, *others),
        outputs=(logits, *present),
        plugins={
            "AttentionPlugin": layers,
            "Int4GroupwiseGemmPluginV2": layers * len(LINEARS),
            "QkvConcatPlugin": layers,
        },
        attention=_ATTENTION | sizes,
    )
