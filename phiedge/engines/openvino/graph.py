"""The decoder as an OpenVINO model over the weights of a bundle.

Weights stay as the bundle stores them, integers with an offset and a scale for each group, and OpenVINO's matrix
products take them so. What else is written here is written in the shapes that OpenVINO knows and fuses: RMS norm,
rotation, and attention over a cache. It is first a model that holds its cache itself; OpenVINO then turns that into
paged attention, whose cache comes from outside. (A model with its own cache can neither go back nor be stopped: see
docs/decisions/0703-why-openvino-beside-onnx-runtime.md.) Where a norm or a rotation is not recognised only speed is
lost, so a test counts what was fused.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.interface import Array
from phiedge.engines.openvino.library import op, ov, use_paged_attention
from phiedge.errors import BundleError

EMBEDDINGS, POSITIONS, LOGITS = "inputs_embeds", "position_ids", "logits"
# Inputs that the model with its own cache has, and paged attention takes away.
_BEAM, _MASK = "beam_idx", "attention_mask"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """The model's inputs, and what every layer takes from them."""

    rows: Any
    positions: Any
    beam: Any
    mask: Any
    cos: Any
    sin: Any


class DecoderGraph:
    """Makes the model from `weights` by their names in the `ort` dialect.

    What it makes refers to their memory and to this object's, and keeps neither alive.
    """

    def __init__(self, weights: dict[str, Array], facts: ModelFacts) -> None:
        self._weights = weights
        self._facts = facts
        self._states: list[Any] = []
        # Codes are stored from 0 up, as MatMulNBits has them.
        self._offsets = {bits: np.array([2 ** (bits - 1)], np.uint8) for bits in (4, 8)}

    def model(self) -> ov.Model:
        """Rows of embeddings, their positions and a paged cache in; the last row's logits out. Raises `BundleError`."""
        inputs = self._inputs()
        x, last = inputs.rows, self._facts.num_layers - 1
        for layer in range(self._facts.num_layers):
            x = self._layer(layer, x, inputs, last_row_only=layer == last)
        logits = self._linear(self._norm(x, "model.norm.weight"), "lm_head.weight", bits=8)
        logits.output(0).set_names({LOGITS})
        ports = [inputs.rows, inputs.positions, inputs.beam, inputs.mask]
        model = ov.Model([op.result(logits)], self._states, ports, "decoder")
        use_paged_attention(model)
        return model

    def _inputs(self) -> _Inputs:
        rows = _input(EMBEDDINGS, [1, -1, self._facts.hidden_size], ov.Type.f32)
        positions = _input(POSITIONS, [1, -1], ov.Type.i64)
        beam, mask = _input(_BEAM, [-1], ov.Type.i32), _input(_MASK, [1, -1], ov.Type.i64)
        cos, sin = (self._rotation(name, positions) for name in ("cos_cache", "sin_cache"))
        return _Inputs(rows=rows, positions=positions, beam=beam, mask=mask, cos=cos, sin=sin)

    def _rotation(self, name: str, positions: Any) -> Any:
        half = self._weight(name)
        table = op.constant(np.concatenate([half, half], axis=1))
        return op.unsqueeze(op.gather(table, positions, _whole(0)), _whole(1))

    def _layer(self, layer: int, x: Any, inputs: _Inputs, *, last_row_only: bool) -> Any:
        name = f"model.layers.{layer}"
        attended = self._attention(layer, self._norm(x, f"{name}.input_layernorm.weight"), inputs)
        if last_row_only:
            attended, x = self._last_row(attended), self._last_row(x)
        x = op.add(x, self._linear(attended, f"{name}.self_attn.o_proj.weight", bits=4))
        rows = self._norm(x, f"{name}.post_attention_layernorm.weight")
        gate_up, size = f"{name}.mlp.gate_up_proj.weight", self._facts.intermediate_size
        gate = self._linear(rows, gate_up, bits=4, part=slice(0, size))
        up = self._linear(rows, gate_up, bits=4, part=slice(size, 2 * size))
        product = op.multiply(op.swish(gate), up)
        return op.add(x, self._linear(product, f"{name}.mlp.down_proj.weight", bits=4))

    def _attention(self, layer: int, rows: Any, inputs: _Inputs) -> Any:
        facts = self._facts
        qkv = f"model.layers.{layer}.self_attn.qkv_proj.weight"
        queries, keys = facts.num_heads * facts.head_dim, facts.num_kv_heads * facts.head_dim
        ends = (0, queries, queries + keys, queries + 2 * keys)
        q, k, v = (self._linear(rows, qkv, bits=4, part=slice(*span)) for span in pairwise(ends))
        query = _rotate(self._heads(q, facts.num_heads), inputs, facts.head_dim)
        key = self._cached(f"{layer}.key", _rotate(self._heads(k, facts.num_kv_heads), inputs, facts.head_dim), inputs)
        value = self._cached(f"{layer}.value", self._heads(v, facts.num_kv_heads), inputs)
        attended = self._attend(query, key, value, inputs)
        return op.reshape(op.transpose(attended, _whole([0, 2, 1, 3])), _whole([0, 0, queries]), True)

    def _attend(self, query: Any, key: Any, value: Any, inputs: _Inputs) -> Any:
        mask = op.unsqueeze(op.convert(inputs.mask, ov.Type.f32), _whole([1, 2]))
        return op.scaled_dot_product_attention(query, self._shared(key), self._shared(value), mask)

    def _last_row(self, x: Any) -> Any:
        rows = op.reshape(x, _whole([1, -1, self._facts.hidden_size]), False)  # paged attention has rows on axis 0
        return _slice(rows, -1, np.iinfo(np.int64).max, axis=1)

    def _heads(self, rows: Any, heads: int) -> Any:
        split = op.reshape(rows, _whole([0, 0, heads, self._facts.head_dim]), True)
        return op.transpose(split, _whole([0, 2, 1, 3]))

    def _cached(self, name: str, new: Any, inputs: _Inputs) -> Any:
        """The rows of all positions so far: those that the model holds under `name`, then the new ones."""
        facts = self._facts
        info = ov.op.util.VariableInfo()
        info.data_shape = ov.PartialShape([-1, facts.num_kv_heads, -1, facts.head_dim])
        info.data_type, info.variable_id = ov.Type.f32, name
        variable = ov.op.util.Variable(info)
        nothing = op.broadcast(op.constant(np.float32(0)), _whole([1, facts.num_kv_heads, 0, facts.head_dim]))
        held = ov.opset6.read_value(nothing, variable)
        rows = op.concat([op.gather(held, inputs.beam, _whole(0)), new], 2)
        self._states.append(ov.opset6.assign(rows, variable))
        return rows

    def _shared(self, cached: Any) -> Any:
        """Every cached head once for each of the query heads that share it."""
        facts, shape = self._facts, op.shape_of(cached)
        outer, inner = (op.gather(shape, _whole(places), _whole(0)) for places in ([0, 1], [2, 3]))
        wanted = op.concat([outer, _whole([facts.num_heads // facts.num_kv_heads]), inner], 0)
        repeated = op.broadcast(op.unsqueeze(cached, _whole(2)), wanted, "BIDIRECTIONAL")
        return op.reshape(repeated, _whole([0, facts.num_heads, -1, facts.head_dim]), True)

    def _norm(self, x: Any, name: str) -> Any:
        mean = op.reduce_mean(op.power(x, op.constant(np.float32(2))), _whole([-1]), True)
        scale = op.divide(op.constant(np.float32(1)), op.sqrt(op.add(mean, op.constant(_epsilon(self._facts)))))
        return op.multiply(op.multiply(x, scale), op.constant(self._weight(name)[None, None]))

    def _linear(self, x: Any, name: str, *, bits: int, part: slice | None = None) -> Any:
        """`x` times the rows `part` of a weight, transposed."""
        rows = slice(None) if part is None else part
        codes, scales = self._weight(f"{name}.int{bits}")[rows], self._weight(f"{name}.scales")[rows]
        count, groups, blob_bytes = codes.shape
        group_size = blob_bytes * 8 // bits
        integers = _integers(codes, bits, [count, groups, group_size])
        zero = _integers(self._offsets[bits], bits, [1])
        centred = op.subtract(op.convert(integers, ov.Type.f32), op.convert(zero, ov.Type.f32))
        scaled = op.multiply(centred, op.constant(scales[:, :, None]))
        return op.matmul(x, op.reshape(scaled, _whole([count, groups * group_size]), False), False, True)

    def _weight(self, name: str) -> Array:
        if name not in self._weights:
            raise BundleError(
                f"the decoder graph has no weight {name!r}, which OpenVINO's decoder is made from",
                remedy="export with --precision int4, or compute on ONNX Runtime: --backend onnxruntime",
            )
        return self._weights[name]


def _integers(codes: Array, bits: int, shape: list[int]) -> Any:
    if bits == 8:
        return op.constant(codes.reshape(shape), shared_memory=True)  # the array that is kept, seen in another shape
    assert codes.flags.c_contiguous, "a copy would be gone before it is used"
    return op.constant(ov.Tensor(codes.reshape(-1), ov.Shape(shape), ov.Type.u4))


def _rotate(x: Any, inputs: _Inputs, head_dim: int) -> Any:
    first = _slice(x, 0, head_dim // 2, axis=3)
    second = _slice(x, head_dim // 2, np.iinfo(np.int64).max, axis=3)
    minus = op.constant(np.full((1, 1, 1, 1), -1, np.float32))
    turned = op.concat([op.multiply(second, minus), first], -1)
    return op.add(op.multiply(x, inputs.cos), op.multiply(turned, inputs.sin))


def _slice(x: Any, start: int, end: int, *, axis: int) -> Any:
    return op.slice(x, _whole([start]), _whole([end]), _whole([1]), _whole([axis]))


def _input(name: str, shape: list[int], dtype: ov.Type) -> Any:
    node = op.parameter(ov.PartialShape(shape), dtype, name=name)
    node.output(0).set_names({name})
    return node


def _whole(value: int | list[int]) -> Any:
    return op.constant(np.array(value, np.int64))


def _epsilon(facts: ModelFacts) -> np.float32:
    return np.float32(facts.rms_norm_eps)
