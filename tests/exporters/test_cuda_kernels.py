import onnx_ir as ir
import pytest

from phiedge.errors import ExportError
from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.dialects.ort import to_ort_decoder, to_ort_vision
from phiedge.exporters.dialects.ort.contract import DECODER, VISION, VISION_ROUNDED
from phiedge.exporters.dialects.ort.cuda_kernels import CUDA_KERNELS, check_cuda
from phiedge.exporters.graphs import draft_decoder, draft_vision
from phiedge.exporters.precision import FP16, FP32, choose_precision


def test_every_operator_of_the_dialect_has_its_types_stated() -> None:
    assert set(CUDA_KERNELS) == VISION | VISION_ROUNDED | DECODER


@pytest.mark.parametrize("plan", [FP16, choose_precision("int4", sm=89, group_size=64).plan], ids=["fp16", "int4"])
def test_graphs_for_a_gpu_leave_nothing_to_the_cpu(oracle_checkpoint: Checkpoint, plan) -> None:
    vision = draft_vision(oracle_checkpoint.config, plan)
    decoder = draft_decoder(oracle_checkpoint.config, plan, max_context=16)
    to_ort_vision(vision, plan)
    to_ort_decoder(decoder, plan)
    for draft in (vision, decoder):
        check_cuda(draft)
        computed = [node for node in draft.graph if node.op_type != "BitwiseXor"]  # which is of weights only
        assert {node.inputs[0].dtype for node in computed} <= {ir.DataType.FLOAT, ir.DataType.FLOAT16, None}


def test_what_cuda_has_no_kernel_for_is_named_with_its_type(oracle_checkpoint: Checkpoint) -> None:
    decoder = draft_decoder(oracle_checkpoint.config, FP32, max_context=16)
    to_ort_decoder(decoder, FP32)
    with pytest.raises(ExportError, match=r"a GroupQueryAttention \(.*\) of FLOAT, .* no CUDA kernel"):
        check_cuda(decoder)
