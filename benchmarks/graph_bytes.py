"""How many bytes of weights one decode step of an ONNX decoder reads, from the graph itself."""

from pathlib import Path

import onnx

_WEIGHT_OPERATORS = {
    "MatMulNBits",
    "MatMul",
    "Gemm",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "RMSNormalization",
}


def weight_bytes(path: Path) -> int:
    """Codes, scales and norms of every operator that a step runs, as stored; not a table that rows are taken from."""
    graph = onnx.load(str(path), load_external_data=False).graph
    sizes = {tensor.name: _size_bytes(tensor) for tensor in graph.initializer}
    read = {name for node in graph.node if node.op_type in _WEIGHT_OPERATORS for name in node.input}
    return sum(size for name, size in sizes.items() if name in read)


def _size_bytes(tensor: onnx.TensorProto) -> int:
    count = 1
    for side in tensor.dims:
        count *= side
    return count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
