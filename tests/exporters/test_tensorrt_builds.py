"""What TensorRT-RTX builds of decoders that no bundle has for it: the conservative form, and products in float8.

Nothing runs on a GPU, and TensorRT-RTX is not TensorRT 10.3: that a graph is parsed and built here is a hint, no proof.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from phiedge.bundle import data_name
from phiedge.calibration.int4 import RoundToNearest
from phiedge.engines.tensorrt.build_log import BuildLog
from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.dialects.tensorrt import CONSERVATIVE, to_tensorrt_decoder
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.graphs import draft_decoder, save_graph
from phiedge.exporters.node_names import name_nodes
from phiedge.exporters.precision import FP8, INT4, PrecisionPlan, for_tensorrt
from phiedge.exporters.weight_stream import write_weights
from phiedge.exporters.weights import DataFile
from rtx_build import build_log

CAPACITY, CHUNK, LAYERS, KV_HEADS, HEAD = 256, 32, 3, 2, 16
FLOAT8_LINEARS = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(LAYERS)
    for part in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
]


def write_decoder(
    checkpoint: Checkpoint, plan: PrecisionPlan, rewrite: Callable[[GraphDraft, PrecisionPlan], None], path: Path
) -> Path:
    draft = draft_decoder(checkpoint.config, plan, max_context=CAPACITY)
    rewrite(draft, plan)
    name_nodes(draft.graph)
    ranks = {name: rank for rank, name in enumerate(checkpoint.names())}
    file = DataFile.lay_out(data_name(path.name), list(draft.fills.values()), ranks)
    write_weights([file], checkpoint, RoundToNearest(), path.parent)
    save_graph(draft, path, file.offsets)
    return path


@pytest.fixture(scope="module")
def conservative(oracle_checkpoint, tmp_path_factory) -> BuildLog:
    path = tmp_path_factory.mktemp("conservative") / "decoder.tensorrt-10.3.onnx"
    plan = for_tensorrt(replace(INT4, group_size=64))
    write_decoder(oracle_checkpoint, plan, partial(to_tensorrt_decoder, form=CONSERVATIVE), path)
    log = build_log(path, chunk=CHUNK, sm=(86,))
    assert isinstance(log, BuildLog), log
    return log


@pytest.fixture(scope="module")
def float8(oracle_checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("float8") / "decoder.tensorrt.onnx"
    scales = dict.fromkeys(FLOAT8_LINEARS, 0.01)
    return write_decoder(
        oracle_checkpoint, for_tensorrt(FP8), partial(to_tensorrt_decoder, activation_scales=scales), path
    )


def test_nothing_but_products_reads_a_cache_in_the_conservative_form_and_each_is_read_once(conservative) -> None:
    caches = {
        f"past.{layer}.{part}": (KV_HEADS, CAPACITY, HEAD) for layer in range(LAYERS) for part in ("key", "value")
    }
    for profile in conservative.profiles:
        read = [(kernel, operand) for kernel in profile.kernels for operand in kernel.inputs if operand.name in caches]
        assert {operand.name: operand.shape for _, operand in read} == caches
        assert len(read) == len(caches)
        assert all("/self_attn/MatMul" in kernel.name for kernel, _ in read)


def test_weights_of_the_conservative_form_lie_in_the_engine_once_and_in_four_bits(conservative) -> None:
    linears = LAYERS * (192 * 128 + 128 * 128 + 896 * 128 + 128 * 448) + 512 * 128
    assert linears / 2 < conservative.weights_bytes < linears


def test_float8_products_are_one_kernel_each_and_read_weights_of_eight_bits(float8) -> None:
    log = build_log(float8, chunk=CHUNK, sm=(89, 120))
    assert isinstance(log, BuildLog), log
    for profile in log.profiles:
        products = [kernel for kernel in profile.kernels if "_proj/MatMul" in kernel.name]
        assert len(products) == len(FLOAT8_LINEARS)
        assert {len(kernel.inputs) for kernel in products} == {1}  # the other operand is the weight as it is stored
    linears = LAYERS * (192 * 128 + 128 * 128 + 896 * 128 + 128 * 448)
    assert linears < log.weights_bytes < 1.5 * linears


def test_float8_is_refused_for_a_gpu_that_has_none(float8) -> None:
    refused = build_log(float8, chunk=CHUNK, sm=(86,))
    assert isinstance(refused, str)
    assert "sm86" in refused
    assert "fp8" in refused
