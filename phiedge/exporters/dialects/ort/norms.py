"""RMS norms for ONNX Runtime, fused with the residual addition before them."""

import onnx_ir as ir

from phiedge.exporters.dialects.rewrite import MICROSOFT, nodes_of, replace
from phiedge.exporters.draft import GraphDraft


def fuse_norms(draft: GraphDraft) -> None:
    """RMSNormalization(a + b) -> SkipSimplifiedLayerNormalization, whose fourth output is a + b for the next residual.

    A norm without an addition before it becomes SimplifiedLayerNormalization.
    """
    for norm in nodes_of(draft, "RMSNormalization"):
        summed, weight = norm.inputs
        assert summed is not None
        epsilon = norm.attributes["epsilon"].as_float()
        add = summed.producer()
        if add is not None and add.op_type == "Add":
            operands = [*add.inputs, weight]
            fused = ir.node(
                "SkipSimplifiedLayerNormalization", operands, {"epsilon": epsilon}, domain=MICROSOFT, num_outputs=4
            )
            normalised, mean, inverse_deviation, total = fused.outputs
            mean.name = inverse_deviation.name = ""
            replace(draft, [add, norm], [fused], [summed, norm.outputs[0]], [total, normalised])
        else:
            attributes = {"epsilon": epsilon, "axis": -1, "stash_type": 1}
            plain = ir.node("SimplifiedLayerNormalization", [summed, weight], attributes)
            replace(draft, [norm], [plain], norm.outputs, plain.outputs)
