"""RMS norms for a parser that has none."""

import numpy as np
import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.dialects.rewrite import nodes_of, replace
from phiedge.exporters.dialects.tensorrt.written_out import NodeList
from phiedge.exporters.draft import GraphDraft


def write_out_norms(draft: GraphDraft) -> None:
    """RMSNormalization -> x / sqrt(mean(x * x) + epsilon) * weight, all in float32.

    Raises `ExportError` for a norm in float16, where the square of 256 is infinite.
    """
    for norm in nodes_of(draft, "RMSNormalization"):
        x, weight = norm.inputs
        assert x is not None
        if x.dtype != ir.DataType.FLOAT:
            raise ExportError(
                f"a norm is to be computed in {x.dtype}, in which its squares need not fit",
                remedy="use a plan whose norms are float32",
            )
        new = NodeList(draft)
        last = new.constant("last_axis", np.array([-1]))
        epsilon = new.constant("epsilon", np.float32(norm.attributes["epsilon"].as_float()))
        mean = new.add("ReduceMean", [new.add("Mul", [x, x]), last], {"keepdims": 1})
        size = new.add("Sqrt", [new.add("Add", [mean, epsilon])])
        scaled = new.add("Mul", [new.add("Div", [x, size]), weight])
        replace(draft, [norm], new.nodes, norm.outputs, [scaled])
