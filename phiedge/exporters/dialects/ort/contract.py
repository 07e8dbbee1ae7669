"""What a graph of the `ort` dialect consists of, checked when all passes are done.

A pass that no longer recognises what a newer exporter traces would otherwise leave a slow or a wrong graph behind
silently. Here it is an error that names the node.
"""

from phiedge.errors import ExportError
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan

VISION = frozenset({"Add", "Cast", "Gelu", "Gemm", "LayerNormalization", "MultiHeadAttention", "Squeeze", "Unsqueeze"})
# What linears in 8 bits add to it: products of integers beside float32, otherwise numbers that are rounded.
_VISION_INTEGERS = frozenset({"MatMulIntegerToFloat", "QuantizeLinear", "Transpose"})
VISION_ROUNDED = frozenset({"DequantizeLinear", "Mul", "QuantizeLinear"})
_FLOAT8 = frozenset({"DequantizeLinear", "QuantizeLinear"})
DECODER = frozenset(
    {
        "BitwiseXor",
        "Cast",
        "GroupQueryAttention",
        "MatMul",
        "MatMulNBits",
        "Mul",
        "SimplifiedLayerNormalization",
        "Sigmoid",
        "SkipSimplifiedLayerNormalization",
        "Slice",
        "Split",
        "Transpose",
        "Add",
    }
)


def check_vision(draft: GraphDraft, plan: PrecisionPlan) -> None:
    """Raises `ExportError` naming the first node that does not belong."""
    if plan.vision_linears is None:
        _check_operators(draft, VISION)
        return
    as_integers = plan.vision_linears == "int8" and plan.activations == "float32"
    _check_operators(draft, VISION | (_VISION_INTEGERS if as_integers else VISION_ROUNDED))


def check_decoder(draft: GraphDraft, plan: PrecisionPlan) -> None:
    """As `check_vision`; a quantised decoder must have no float linears left but those that the plan wants wider."""
    if plan.group_size is None:
        _check_operators(draft, (DECODER | _FLOAT8 if plan.decoder == "float8" else DECODER) - {"MatMulNBits"})
        return
    floats = len(plan.wider) if plan.wider_as == "float16" else 0
    _check_operators(draft, DECODER if floats else DECODER - {"MatMul", "Transpose"})
    products = sum(node.op_type == "MatMul" for node in draft.graph)
    if products != floats:
        raise ExportError(
            f"the {draft.graph.name} graph has {products} products with float weights, the plan wants {floats}",
            remedy="install the torch and onnxscript that constraints.txt names",
        )


def _check_operators(draft: GraphDraft, allowed: frozenset[str]) -> None:
    for node in draft.graph:
        if node.op_type not in allowed:
            raise ExportError(
                f"the {draft.graph.name} graph has a {node.op_type} ({node.name}) that no pass of the dialect took",
                remedy="install the torch and onnxscript that constraints.txt names",
            )
