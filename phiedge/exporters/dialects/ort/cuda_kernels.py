"""Which types ONNX Runtime's CUDA provider computes each operator of this dialect in.

ONNX Runtime runs what CUDA has no kernel for on the CPU, and says so in a log at most. A graph for a GPU is therefore
held against this table when it is made. Source: the kernels that the CUDA provider of onnxruntime-gpu 1.31.1 holds;
only types that graphs here have are listed (docs/guides/gpu.md).
"""

from collections.abc import Mapping

import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.draft import GraphDraft

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_EIGHT_BITS = frozenset({ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN})
CUDA_KERNELS: Mapping[str, frozenset[ir.DataType]] = {
    "Add": _FLOATS,
    "BitwiseXor": frozenset({ir.DataType.UINT8}),  # of weights only: computed when the graph is opened, on any provider
    "Cast": _FLOATS | _EIGHT_BITS,
    "DequantizeLinear": _EIGHT_BITS,
    "Gelu": _FLOATS,
    "Gemm": _FLOATS,
    "GroupQueryAttention": frozenset({ir.DataType.FLOAT16}),
    "LayerNormalization": _FLOATS,
    "MatMul": _FLOATS,
    "MatMulNBits": _FLOATS,
    "Mul": _FLOATS,
    "MultiHeadAttention": _FLOATS,
    "QuantizeLinear": _FLOATS,
    "Sigmoid": _FLOATS,
    "SimplifiedLayerNormalization": _FLOATS,
    "SkipSimplifiedLayerNormalization": _FLOATS,
    "Slice": _FLOATS,
    "Split": _FLOATS,
    "Squeeze": _FLOATS,
    "Transpose": _FLOATS,
    "Unsqueeze": _FLOATS,
}


def check_cuda(draft: GraphDraft) -> None:
    """Raises `ExportError` naming the first node that a GPU would leave to the CPU, with its type."""
    for node in draft.graph:
        operand = node.inputs[0]
        dtype = None if operand is None else operand.dtype
        if dtype is not None and dtype not in CUDA_KERNELS.get(node.op_type, frozenset()):
            raise ExportError(
                f"the {draft.graph.name} graph has a {node.op_type} ({node.name}) of {dtype.name}, which ONNX Runtime "
                "has no CUDA kernel for",
                remedy="install the torch and onnxscript that constraints.txt names",
            )
