"""The two forms of the dialect, and all that they differ in: which operators the parser of a TensorRT takes.

Passes ask a form what it has, the contract what it allows. Sources: docs/decisions/0406 and 0407.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_FLOAT = frozenset({ir.DataType.FLOAT})
_INT64 = frozenset({ir.DataType.INT64})
_BOOL = frozenset({ir.DataType.BOOL})
_INT4 = frozenset({ir.DataType.INT4})
_INT8 = frozenset({ir.DataType.INT8})
_FLOAT8 = frozenset({ir.DataType.FLOAT8E4M3FN})

# By operator the types of its first operand.
Operators = Mapping[str, frozenset[ir.DataType]]

_VISION_OF_BOTH: Operators = {
    "Add": _FLOATS,
    "Cast": _FLOATS,
    "DequantizeLinear": _INT8,
    "Gelu": _FLOATS,
    "Gemm": _FLOATS,
    "LayerNormalization": _FLOATS,
    "QuantizeLinear": _FLOATS,
    "Squeeze": _FLOATS,
    "Unsqueeze": _FLOATS,
}
_DECODER_OF_BOTH: Operators = {
    "Add": _FLOATS,
    "Cast": _FLOATS,
    "DequantizeLinear": _INT4,
    "Gather": _FLOATS | _INT64,
    "LessOrEqual": _INT64,
    "MatMul": _FLOATS,
    "Mul": _FLOATS,
    "Reshape": _FLOATS,
    "Sigmoid": _FLOATS,
    "Split": _FLOATS,
    "Transpose": _FLOATS,
    "Unsqueeze": _INT64,
    "Where": _BOOL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form by the name of its dialect, with the operators that its graphs may have, and nothing else."""

    name: str
    opset: int
    ir_version: int
    vision: Operators
    decoder: Operators

    @property
    def has_attention(self) -> bool:
        """Whether attention is one operator, or has to be written out in products and a softmax."""
        return "Attention" in self.vision

    @property
    def writes_caches(self) -> bool:
        """Whether the graph writes its caches in place, or gives new rows to a host who does."""
        return "TensorScatter" in self.decoder

    @property
    def has_rms_norm(self) -> bool:
        """Whether a norm without a mean is one operator."""
        return "RMSNormalization" in self.decoder

    @property
    def has_float8(self) -> bool:
        """Whether products may be of 8-bit floats; no GPU of the conservative form's has them."""
        return "QuantizeLinear" in self.decoder


# TensorRT-RTX 1.7 and TensorRT from 10.16 on.
MODERN = Form(
    name="tensorrt",
    opset=24,  # the first with TensorScatter
    ir_version=11,  # what ONNX released with it
    vision={**_VISION_OF_BOTH, "Attention": _FLOATS, "DequantizeLinear": _INT8 | _FLOAT8},
    decoder={
        **_DECODER_OF_BOTH,
        "Attention": _FLOATS,
        "DequantizeLinear": _INT4 | _FLOAT8,
        "QuantizeLinear": _FLOATS,
        "RMSNormalization": _FLOATS,
        "Range": _INT64,
        "RotaryEmbedding": _FLOATS,
        "TensorScatter": _FLOATS,
    },
)
# TensorRT from 10.3 on, which JetPack 6.2 has.
CONSERVATIVE = Form(
    name="tensorrt-10.3",
    opset=21,  # the first whose DequantizeLinear has blocks
    ir_version=10,
    vision={
        **_VISION_OF_BOTH,
        "MatMul": _FLOATS,
        "Mul": _FLOATS,
        "Reshape": _FLOATS,
        "Softmax": _FLOAT,
        "Transpose": _FLOATS,
    },
    decoder={
        **_DECODER_OF_BOTH,
        "Concat": _FLOATS | _INT64,
        "Div": _FLOAT,
        "Expand": _INT64,
        "Less": _INT64,
        "ReduceMean": _FLOAT,
        "Reshape": _FLOATS | _INT64,
        "Slice": _FLOATS,
        "Softmax": _FLOAT,
        "Sqrt": _FLOAT,
        "Squeeze": _INT64,
        "Sub": _FLOATS,
        "Unsqueeze": _FLOATS | _INT64,
    },
)
FORMS = {form.name: form for form in (MODERN, CONSERVATIVE)}
