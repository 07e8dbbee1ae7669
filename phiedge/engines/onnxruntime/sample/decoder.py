"""Layers of a decoder as the exporter's `ort` dialect writes them, operator by operator (a test holds them together).

After `layers` whole ones comes the last, of which only the attention sees all rows, then the head.
"""

import math
from dataclasses import dataclass

import numpy as np

from phiedge.bundle import ModelFacts, Precision
from phiedge.engines.onnxruntime.sample.plain_graph import MICROSOFT, PlainGraph

_ACCURACY_LEVEL = 4  # activations are rounded to 8 bits
_TO_END = np.iinfo(np.int64).max
_BITS = {"int4": 4, "int8": 8}
SAMPLED_TYPES = (*_BITS, "float32")  # of linears


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSample:
    """What is written: so many whole layers, and a head of so many tokens."""

    facts: ModelFacts
    precision: Precision
    layers: int
    vocabulary: int
    capacity: int

    @property
    def caches(self) -> int:
        """How many layers have a cache."""
        return self.layers + 1

    def graph(self) -> PlainGraph:
        """The graph, with inputs and outputs as of a bundle's decoder."""
        return _Writer(self).graph


class _Writer:
    def __init__(self, sample: DecoderSample) -> None:
        self.graph, self._sample, self._facts = PlainGraph(), sample, sample.facts
        graph, facts = self.graph, sample.facts
        rows = graph.input("inputs_embeds", (1, "chunk_tokens", facts.hidden_size), np.float32)
        self._lengths = [graph.input("seqlens_k", (1,), np.int32), graph.input("total_sequence_length", (), np.int32)]
        self._tables = [graph.floats(sample.capacity, facts.head_dim // 2, scale=1.0) for _ in range(2)]
        self._last = [graph.constant(np.array([value], np.int64)) for value in (-1, _TO_END, 1)]
        normed = graph.node(
            "SimplifiedLayerNormalization",
            [rows, graph.ones(facts.hidden_size)],
            epsilon=facts.rms_norm_eps,
            axis=-1,
            stash_type=1,
        )
        for layer in range(sample.caches):
            rows, normed = self._layer(layer, rows, normed, is_last=layer == sample.layers)
        self._linear(normed, facts.hidden_size, sample.vocabulary, sample.precision.lm_head, output="logits")
        graph.output("logits", (1, 1, sample.vocabulary), np.float32)
        for layer in range(sample.caches):
            for side in ("key", "value"):
                graph.output(f"present.{layer}.{side}", self._cache_shape, self._cache_type)

    @property
    def _cache_shape(self) -> tuple[int | str, ...]:
        return 1, self._facts.num_kv_heads, "capacity", self._facts.head_dim

    @property
    def _cache_type(self) -> np.dtype[np.int8] | np.dtype[np.float32]:
        return np.dtype(np.int8) if self._sample.precision.cache == "int8" else np.dtype(np.float32)

    def _layer(self, layer: int, rows: str, normed: str, *, is_last: bool) -> tuple[str, str]:
        """One layer; returns the rows and the same normed. The last one goes on with the last row alone."""
        facts, graph, stored = self._facts, self.graph, self._sample.precision.decoder
        wide = facts.num_heads * facts.head_dim
        qkv = self._linear(
            normed, facts.hidden_size, (facts.num_heads + 2 * facts.num_kv_heads) * facts.head_dim, stored
        )
        attended = self._attention(layer, qkv)
        if is_last:
            attended = self._last_row(attended)
        projected = self._linear(attended, wide, facts.hidden_size, stored)
        rows, normed = self._norm(self._last_row(rows) if is_last else rows, projected)
        both = self._linear(normed, facts.hidden_size, 2 * facts.intermediate_size, stored)
        gate, up = graph.node_of("Split", [both], [graph.fresh(), graph.fresh()], axis=2, num_outputs=2)
        gated = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        inner = graph.node("Mul", [gated, up])
        return self._norm(rows, self._linear(inner, facts.intermediate_size, facts.hidden_size, stored))

    def _last_row(self, rows: str) -> str:
        return self.graph.node("Slice", [rows, *self._last, self._last[2]])

    def _attention(self, layer: int, qkv: str) -> str:
        facts, graph, sides = self._facts, self.graph, ("key", "value")
        past = [graph.input(f"past.{layer}.{side}", self._cache_shape, self._cache_type) for side in sides]
        operands = [qkv, "", "", *past, *self._lengths, *self._tables]
        attributes: dict[str, int | float | str] = {
            "num_heads": facts.num_heads,
            "kv_num_heads": facts.num_kv_heads,
            "scale": 1 / math.sqrt(facts.head_dim),
            "do_rotary": 1,
            "rotary_interleaved": 0,
        }
        if self._cache_type == np.int8:
            channels = facts.num_kv_heads * facts.head_dim
            operands += ["", "", "", *(graph.level(channels, value=0.05) for _ in sides)]
            attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        outputs = [graph.fresh(), *(f"present.{layer}.{side}" for side in sides)]
        return graph.node_of("GroupQueryAttention", operands, outputs, domain=MICROSOFT, **attributes)[0]

    def _norm(self, rows: str, added: str) -> tuple[str, str]:
        graph = self.graph
        operands = [rows, added, graph.ones(self._facts.hidden_size)]
        outputs = [graph.fresh(), "", "", graph.fresh()]
        epsilon = self._facts.rms_norm_eps
        graph.node_of("SkipSimplifiedLayerNormalization", operands, outputs, domain=MICROSOFT, epsilon=epsilon)
        return outputs[3], outputs[0]

    def _linear(self, x: str, k: int, n: int, stored: str, *, output: str | None = None) -> str:
        graph, group = self.graph, self._sample.precision.group_size
        output = output or graph.fresh()
        if stored == "float32":
            turned = graph.node("Transpose", [graph.floats(n, k, scale=k**-0.5)], perm=(1, 0))
            return graph.node_of("MatMul", [x, turned], [output])[0]
        assert group is not None
        bits = _BITS[stored]
        codes = graph.codes(n, k // group, group * bits // 8)
        scales = graph.level(n, k // group, value=k**-0.5 / 2 ** (bits - 2))
        attributes = {"K": k, "N": n, "bits": bits, "block_size": group, "accuracy_level": _ACCURACY_LEVEL}
        return graph.node_of("MatMulNBits", [x, codes, scales], [output], domain=MICROSOFT, **attributes)[0]
