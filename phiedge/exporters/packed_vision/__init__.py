"""The vision graph on the packed-patch contract of TensorRT Edge-LLM: several pictures in one call.

contract.py    what goes in and comes out, and the operator for attention
positions.py   the position table, sampled in the graph for every picture's own grid
packing.py     from a bundle's vision graph to this one

`onnx_ir` alone is needed; weights are read from the bundle, and no checkpoint is.
"""

from phiedge.exporters.packed_vision.packing import write_packed_vision

__all__ = ["write_packed_vision"]
