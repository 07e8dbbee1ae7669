"""Names that say where a node is: `/model/layers.0/self_attn/qkv_proj/MatMulNBits`, and values after their node.

So a profile, an error of an engine or an override for one layer can be read without the graph at hand.
"""

import re
from collections import Counter

import onnx_ir as ir

from phiedge.exporters.trace import SCOPE


def name_nodes(graph: ir.Graph) -> None:
    """Name all nodes by module and operator, and the values between them; drops the metadata that names are made from.

    Graph inputs, outputs and weights keep their names.
    """
    outputs = {id(value) for value in graph.outputs}
    taken: Counter[str] = Counter()
    for node in graph:
        scope = node.metadata_props.pop(SCOPE)
        base = f"/{_as_path(scope)}/{node.op_type}" if scope else f"/{node.op_type}"
        node.name = base if not taken[base] else f"{base}_{taken[base]}"
        taken[base] += 1
        for index, value in enumerate(node.outputs):
            if id(value) not in outputs and value.name:
                value.name = f"{node.name}/{index}"


def _as_path(scope: str) -> str:
    """Dots become slashes, except before the number of a layer."""
    return re.sub(r"\.(?!\d)", "/", scope)
