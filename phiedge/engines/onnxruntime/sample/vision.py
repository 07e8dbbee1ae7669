"""Blocks of a vision encoder with its projector, as the exporter writes them for ONNX Runtime, in float32."""

import math

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.onnxruntime.sample.plain_graph import MICROSOFT, PlainGraph

_CHANNELS = 3
_EPSILON = 1e-6


def vision_graph(facts: ModelFacts, *, blocks: int) -> PlainGraph:
    """`patches` and `pos_embed` to `features`, through so many blocks."""
    return _Writer(facts, blocks).graph


class _Writer:
    def __init__(self, facts: ModelFacts, blocks: int) -> None:
        self.graph, self._facts = PlainGraph(), facts
        graph, width, patch_values = self.graph, facts.vision_hidden_size, _CHANNELS * facts.patch_size**2
        self._axis = graph.constant(np.array([0], np.int64))
        patches = graph.input("patches", ("patches", patch_values), np.float32)
        positions = graph.input("pos_embed", ("patches", width), np.float32)
        rows = graph.node("Add", [self._linear(patches, patch_values, width), positions])
        for _ in range(blocks):
            rows = self._block(rows)
        inner = graph.node("Gelu", [self._linear(rows, width, facts.hidden_size)], approximate="none")
        self._linear(inner, facts.hidden_size, facts.hidden_size, output="features")
        graph.output("features", ("patches", facts.hidden_size), np.float32)

    def _block(self, rows: str) -> str:
        graph, width, inner = self.graph, self._facts.vision_hidden_size, self._facts.vision_intermediate_size
        normed = self._norm(rows)
        heads = [graph.node("Unsqueeze", [self._linear(normed, width, width), self._axis]) for _ in range(3)]
        scale = 1 / math.sqrt(width / self._facts.vision_heads)
        attended = graph.node(
            "MultiHeadAttention", heads, domain=MICROSOFT, num_heads=self._facts.vision_heads, scale=scale
        )
        rows = graph.node("Add", [rows, self._linear(graph.node("Squeeze", [attended, self._axis]), width, width)])
        widened = graph.node("Gelu", [self._linear(self._norm(rows), width, inner)], approximate="tanh")
        return graph.node("Add", [rows, self._linear(widened, inner, width)])

    def _norm(self, rows: str) -> str:
        graph, width = self.graph, self._facts.vision_hidden_size
        operands = [rows, graph.ones(width), graph.level(width, value=0.0)]
        return graph.node("LayerNormalization", operands, epsilon=_EPSILON, axis=-1, stash_type=1)

    def _linear(self, x: str, k: int, n: int, *, output: str | None = None) -> str:
        graph = self.graph
        operands = [x, graph.floats(n, k, scale=k**-0.5), graph.level(n, value=0.0)]
        output = output or graph.fresh()
        return graph.node_of("Gemm", operands, [output], alpha=1.0, beta=1.0, transA=0, transB=1)[0]
