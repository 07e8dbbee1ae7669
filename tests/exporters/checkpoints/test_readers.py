"""Each way in which an engine is known to misread a checkpoint, provoked, and refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import FormatError, UsageError
from phiedge.exporters.checkpoints import FORMATS, write_checkpoint
from phiedge.exporters.checkpoints.readers import check_readable
from phiedge.exporters.checkpoints.tensor_file import TensorOut, write_tensors


@pytest.fixture(scope="module")
def written(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("formats")
    return {kind: write_checkpoint(gpu_bundle, kind, parent / kind) for kind in FORMATS}


@pytest.fixture
def copied(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(kind: str) -> Path:
        return Path(shutil.copytree(written[kind], tmp_path / kind))

    return copy


def change_config(checkpoint: Path, key: str, changed: dict[str, Any]) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config[key] |= changed
    (checkpoint / "config.json").write_text(json.dumps(config))


def rename_tensor(file: Path, old: str, new: str) -> None:
    """In the header, with a name of the same length."""
    assert len(old) == len(new)
    data = file.read_bytes()
    assert data.count(f'"{old}"'.encode()) == 1
    file.write_bytes(data.replace(f'"{old}"'.encode(), f'"{new}"'.encode()))


def test_every_format_is_read_by_its_readers(written: dict[str, Path]) -> None:
    for kind, chosen in FORMATS.items():
        for reader in chosen.readers:
            check_readable(written[kind], reader, sm=87)


@pytest.mark.parametrize(
    ("kind", "reader", "message"),
    [
        ("compressed-tensors", "edge-llm", "leaves out .* tensors and reports success"),
        ("compressed-tensors", "tensorrt-llm", "is compressed-tensors, TensorRT-LLM reads modelopt"),
        ("awq", "tensorrt-llm", "is awq, TensorRT-LLM reads modelopt"),
        ("modelopt", "vllm", "is W4A16_AWQ of ModelOpt, which vLLM does not read"),
    ],
)
def test_a_format_that_the_reader_does_not_know_is_refused(
    written: dict[str, Path], kind: str, reader: str, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        check_readable(written[kind], reader)


@pytest.mark.parametrize("reader", ["edge-llm", "vllm"])
def test_fused_awq_is_refused(copied: Callable[[str], Path], reader: str) -> None:
    checkpoint = copied("awq")
    old, new = "model.layers.0.mlp.gate_proj.qweight", "model.layers.0.gate_up_proj.qweights"
    rename_tensor(checkpoint / "model.safetensors", old, new)
    with pytest.raises(FormatError, match=r"has the fused tensor model\.layers\.0\.gate_up_proj"):
        check_readable(checkpoint, reader)


@pytest.mark.parametrize(
    ("kind", "reader"), [("awq", "edge-llm"), ("modelopt", "edge-llm"), ("modelopt", "tensorrt-llm")]
)
def test_groups_other_than_128_are_refused(copied: Callable[[str], Path], kind: str, reader: str) -> None:
    checkpoint = copied(kind)
    change_config(checkpoint, "quantization_config", {"group_size": 64})
    with pytest.raises(FormatError, match="has groups of 64 weights, .* reads groups of 128"):
        check_readable(checkpoint, reader)


def test_zero_points_off_the_middle_are_refused(tmp_path: Path) -> None:
    said = {"quant_method": "awq", "group_size": 128, "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))
    zeros = np.full((1, 2), 0x88888888, np.uint32)
    zeros[0, 1] = 0x88888887
    write_tensors(tmp_path, [TensorOut.of("model.layers.0.self_attn.q_proj.qzeros", "I32", zeros)])
    with pytest.raises(FormatError, match=r"zero points in model\.layers\.0\.self_attn\.q_proj\.qzeros that are not 8"):
        check_readable(tmp_path, "edge-llm")


def test_inputs_in_another_order_are_refused(tmp_path: Path) -> None:
    said = {"quant_method": "gptq", "group_size": 128, "bits": 4, "desc_act": True}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))
    write_tensors(tmp_path, [TensorOut.of("a.qzeros", "I32", np.full((1, 1), 0x77777777, np.uint32))])
    with pytest.raises(FormatError, match="desc_act"):
        check_readable(tmp_path, "edge-llm")


def plain_float8(part: str, weight_scale: float) -> list[TensorOut]:
    name, values = f"model.layers.0.self_attn.{part}", np.zeros((2, 2), np.uint8)
    scales = [
        TensorOut.of(f"{name}.{kind}", "F32", np.array(scale, np.float32))
        for kind, scale in (("weight_scale", weight_scale), ("input_scale", 0.25))
    ]
    return [TensorOut.of(f"{name}.weight", "F8_E4M3", values), *scales]


@pytest.fixture
def plain_config(tmp_path: Path) -> None:
    said = {"quant_method": "modelopt", "quant_algo": "FP8"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))


@pytest.mark.usefixtures("plain_config")
def test_plain_fp8_whose_fused_parts_have_other_scales_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path, [*plain_float8("q_proj", 0.5), *plain_float8("k_proj", 0.75)])
    check_readable(tmp_path, "edge-llm")
    with pytest.raises(FormatError, match=r"0\.5 as .*q_proj\.weight_scale and 0\.75 as .*k_proj.*rounding again"):
        check_readable(tmp_path, "tensorrt-llm")


@pytest.mark.parametrize("reader", ["edge-llm", "tensorrt-llm", "vllm"])
@pytest.mark.usefixtures("plain_config")
def test_plain_fp8_without_the_scale_of_an_input_is_refused(tmp_path: Path, reader: str) -> None:
    write_tensors(tmp_path, plain_float8("q_proj", 0.5)[:2])
    with pytest.raises(FormatError, match=r"has nothing as .*q_proj\.input_scale, wanted is F32 \(\)"):
        check_readable(tmp_path, reader)


@pytest.mark.usefixtures("plain_config")
def test_fp8_on_orin_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path, plain_float8("q_proj", 0.5))
    check_readable(tmp_path, "edge-llm", sm=110)
    with pytest.raises(FormatError, match="is FP8, which Orin"):
        check_readable(tmp_path, "edge-llm", sm=87)


def test_a_missing_factor_of_an_input_is_refused(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("modelopt")
    old = "model.layers.1.self_attn.o_proj.pre_quant_scale"
    rename_tensor(checkpoint / "model.safetensors", old, old[:-1] + "_")
    with pytest.raises(FormatError, match=r"has no model\.layers\.1\.self_attn\.o_proj\.pre_quant_scale"):
        check_readable(checkpoint, "tensorrt-llm")


def test_a_fused_modelopt_checkpoint_is_refused(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("modelopt")
    rename_tensor(
        checkpoint / "model.safetensors", "model.layers.0.mlp.gate_proj.weight", "model.layers.0.gate_up_proj.weights"
    )
    with pytest.raises(FormatError, match="reads the codes without their scales"):
        check_readable(checkpoint, "tensorrt-llm")


def test_a_linear_of_trtllm_build_without_its_scales_is_refused(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("trtllm-legacy")
    old = "transformer.layers.0.mlp.fc.weights_scaling_factor"
    rename_tensor(checkpoint / "rank0.safetensors", old, old[:-1] + "_")
    with pytest.raises(FormatError, match=r"has nothing as transformer\.layers\.0\.mlp\.fc\.weights_scaling_factor"):
        check_readable(checkpoint, "trtllm-build")


def test_a_file_that_is_cut_short_is_refused(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("awq")
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FormatError, match="is cut short: lm_head.weight ends at"):
        check_readable(checkpoint, "vllm")


def test_a_reader_without_rules_is_refused(written: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="no rules for a reader 'other'"):
        check_readable(written["awq"], "other")
