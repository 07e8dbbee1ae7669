"""Edge-LLM's operators in numpy, for ONNX's reference evaluator: what they compute, not how.

They take float16 and give float16, as on a GPU, and sum in float32 between. `AttentionPlugin` is the prefill of an
empty cache: the pages are not written, and a request that has a past is refused. `Gemm` and `MatMul` are here because
numpy sums float16 in float16, a hundred times slower than it has to be.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from phiedge.engines.edge_llm.fragments import unpack_codes
from phiedge.exporters.packed_vision.contract import DOMAIN

Array = NDArray[Any]


class Gemm(OpRun):
    """alpha * A B + beta * C."""

    op_domain = ""

    def _run(self, a: Array, b: Array, c: Array | None = None, **attributes: Any) -> tuple[Array]:
        left = a.T if attributes.get("transA") else a
        right = b.T if attributes.get("transB") else b
        product = attributes.get("alpha", 1.0) * (left.astype(np.float32) @ right.astype(np.float32))
        if c is not None:
            product = product + attributes.get("beta", 1.0) * c.astype(np.float32)
        return (product.astype(a.dtype),)


class MatMul(OpRun):
    """A B."""

    op_domain = ""

    def _run(self, a: Array, b: Array) -> tuple[Array]:
        return ((a.astype(np.float32) @ b.astype(np.float32)).astype(a.dtype),)


class Sigmoid(OpRun):
    """1 / (1 + exp(-x)); ONNX's own overflows in float16, and says so."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return ((0.5 * (1 + np.tanh(0.5 * x.astype(np.float32)))).astype(x.dtype),)


class Int4GroupwiseGemmPluginV2(OpRun):
    """x times the transpose of a weight in groups of 4-bit codes."""

    op_domain = DOMAIN

    def _run(
        self, x: Array, stored: Array, scales: Array, gemm_n: int = 0, gemm_k: int = 0, group_size: int = 0
    ) -> tuple[Array]:
        codes = unpack_codes(stored, gemm_n, gemm_k).astype(np.float32)
        weight = codes.reshape(gemm_n, -1, group_size) * scales.T.astype(np.float32)[:, :, None]
        return ((x.astype(np.float32) @ weight.reshape(gemm_n, gemm_k).T).astype(x.dtype),)


class QkvConcatPlugin(OpRun):
    """Queries, keys and values beside each other."""

    op_domain = DOMAIN

    def _run(self, query: Array, key: Array, value: Array) -> tuple[Array]:
        return (np.concatenate([query, key, value], axis=-1),)


class AttentionPlugin(OpRun):
    """Rotary positions and causal grouped attention over sequences that follow each other, without a past."""

    op_domain = DOMAIN

    def _run(self, *inputs: Array, **attributes: Any) -> tuple[Array, Array]:
        qkv, past, lengths, rotary, past_lengths, _, starts, *_ = inputs
        assert not past_lengths.any(), "this is the prefill of an empty cache"
        heads, kv_heads, size = (attributes[name] for name in ("num_q_heads", "num_kv_heads", "head_size"))
        rows = qkv.reshape(len(qkv), heads + 2 * kv_heads, size).astype(np.float32)
        rotated = _rotate(rows[:, : heads + kv_heads], rotary)
        out = np.zeros((len(qkv), heads, size), dtype=np.float16)
        for start, length in zip(starts[:-1].tolist(), lengths.tolist(), strict=True):
            part = slice(start, start + length)
            out[part] = _attend(
                rotated[part, :heads],
                rotated[part, heads:],
                rows[part, heads + kv_heads :],
                scale=attributes["attention_scale"],
                causal=True,
            )
        return out, past


class ViTAttentionPlugin(OpRun):
    """Attention inside each picture."""

    op_domain = DOMAIN

    def _run(
        self, query: Array, key: Array, value: Array, bounds: Array, longest: Array, **attributes: Any
    ) -> tuple[Array]:
        out = np.zeros(query.shape, dtype=np.float16)
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            rows = (part[start:end].astype(np.float32) for part in (query, key, value))
            out[start:end] = _attend(*rows, scale=attributes["attention_scale"], causal=False)
        return (out,)


OPERATORS: list[type[OpRun]] = [
    Gemm,
    MatMul,
    Sigmoid,
    Int4GroupwiseGemmPluginV2,
    QkvConcatPlugin,
    AttentionPlugin,
    ViTAttentionPlugin,
]


def _rotate(rows: Array, rotary: Array) -> Array:
    """Rotate `rows` [t, heads, D] by `rotary` [t, D]: cosines, then sines; element i pairs with i + D / 2."""
    cosine, sine = (part[:, None, :] for part in np.split(rotary.astype(np.float32), 2, axis=1))
    first, second = np.split(rows, 2, axis=2)
    turned: Array = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=2)
    return turned.astype(np.float16).astype(np.float32)


def _attend(query: Array, key: Array, value: Array, *, scale: float, causal: bool) -> Array:
    """Attention of `query` [t, heads, D] to `key` and `value` [t, kv heads, D], which serve neighbouring heads."""
    group = query.shape[1] // key.shape[1]
    keys, values = (np.repeat(part, group, axis=1).transpose(1, 0, 2) for part in (key, value))
    scores = query.transpose(1, 0, 2) @ keys.transpose(0, 2, 1) * np.float32(scale)
    if causal:
        scores[:, np.triu(np.ones(scores.shape[1:], dtype=bool), 1)] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = scores / scores.sum(axis=-1, keepdims=True)
    attended: Array = (shares @ values).transpose(1, 0, 2)
    return attended.astype(np.float16)
