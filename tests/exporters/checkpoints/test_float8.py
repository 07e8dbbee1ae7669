"""Checkpoints in FP8: the codes and scales of the bundle, with a scale for each row or one for a weight."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme

from float8_bundle import float8_bundle
from phiedge.bundle import Bundle, Manifest
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.exporters.checkpoints.readers import check_readable
from text_models import read_safetensors

FP8 = ml_dtypes.float8_e4m3fn


@pytest.fixture
def made(tmp_path: Path, plain_manifest: Manifest) -> tuple[Bundle, dict[str, np.ndarray]]:
    return float8_bundle(tmp_path / "bundle", plain_manifest)


def test_modelopt_has_the_bundles_weights_unfused(made: tuple[Bundle, dict[str, np.ndarray]], tmp_path: Path) -> None:
    bundle, meant = made
    written = write_checkpoint(bundle, "modelopt", tmp_path / "checkpoint")
    tensors = read_safetensors(written / "model.safetensors")
    layer = "model.layers.0."
    found = {}
    for name in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"):
        linear = f"{layer}{name}_proj"
        scales = tensors[f"{linear}.weight_scale"]
        assert (scales.dtype, scales.ndim) == (np.float32, 1)
        found[name] = tensors[f"{linear}.weight"].view(FP8).astype(np.float32) * scales[:, None]
        assert f"{linear}.input_scale" not in tensors
    fused = np.concatenate([found[f"self_attn.{letter}"] for letter in "qkv"])
    np.testing.assert_array_equal(fused, meant[f"{layer}self_attn.qkv_proj.weight"])
    np.testing.assert_array_equal(found["self_attn.o"], meant[f"{layer}self_attn.o_proj.weight"])
    np.testing.assert_array_equal(
        np.concatenate([found["mlp.gate"], found["mlp.up"]]), meant[f"{layer}mlp.gate_up_proj.weight"]
    )
    np.testing.assert_array_equal(found["mlp.down"], meant[f"{layer}mlp.down_proj.weight"])


def test_modelopt_says_what_its_readers_read(made: tuple[Bundle, dict[str, np.ndarray]], tmp_path: Path) -> None:
    written = write_checkpoint(made[0], "modelopt", tmp_path / "checkpoint")
    nested = json.loads((written / "hf_quant_config.json").read_text())["quantization"]
    assert nested == {
        "quant_algo": "FP8_PER_CHANNEL_PER_TOKEN",
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["lm_head", "model.embed_tokens"],
    }
    config = json.loads((written / "config.json").read_text())["quantization_config"]
    assert config["quant_algo"] == "FP8_PER_CHANNEL_PER_TOKEN"
    assert config["kv_cache_scheme"] == {"dynamic": False, "num_bits": 8, "type": "float"}
    tensors = read_safetensors(written / "model.safetensors")
    scales = [tensors[f"model.layers.0.self_attn.{name}"] for name in ("k_proj.k_scale", "v_proj.v_scale")]
    assert [(float(scale), scale.shape) for scale in scales] == [(0.25, ()), (0.5, ())]
    with pytest.raises(FormatError, match="has a scale for each row, Edge-LLM reads one for a tensor"):
        check_readable(written, "edge-llm")


@pytest.fixture
def made_by_tensor(tmp_path: Path, plain_manifest: Manifest) -> tuple[Bundle, dict[str, np.ndarray]]:
    return float8_bundle(tmp_path / "by-tensor", plain_manifest, tensor_scales=True)


def test_modelopt_is_plain_fp8_where_all_rows_have_one_scale(
    made_by_tensor: tuple[Bundle, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    bundle, meant = made_by_tensor
    written = write_checkpoint(bundle, "modelopt", tmp_path / "checkpoint")
    tensors = read_safetensors(written / "model.safetensors")
    parts = {
        "self_attn.qkv_proj": ("self_attn.q", "self_attn.k", "self_attn.v"),
        "self_attn.o_proj": ("self_attn.o",),
        "mlp.gate_up_proj": ("mlp.gate", "mlp.up"),
        "mlp.down_proj": ("mlp.down",),
    }
    for number, (fused, names) in enumerate(parts.items(), start=1):
        linears = [f"model.layers.0.{name}_proj" for name in names]
        scales = [tensors[f"{linear}.weight_scale"] for linear in linears]
        inputs = [tensors[f"{linear}.input_scale"] for linear in linears]
        assert {(scale.dtype, scale.shape) for scale in scales + inputs} == {(np.dtype(np.float32), ())}
        assert len({float(scale) for scale in scales}) == 1
        assert {float(scale) for scale in inputs} == {0.125 * number}
        found = [
            tensors[f"{linear}.weight"].view(FP8).astype(np.float32) * scale
            for linear, scale in zip(linears, scales, strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate(found), meant[f"model.layers.0.{fused}.weight"])


def test_plain_fp8_says_so_and_is_read_where_there_are_kernels(
    made_by_tensor: tuple[Bundle, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    written = write_checkpoint(made_by_tensor[0], "modelopt", tmp_path / "checkpoint")
    nested = json.loads((written / "hf_quant_config.json").read_text())["quantization"]
    assert (nested["quant_algo"], nested["kv_cache_quant_algo"]) == ("FP8", "FP8")
    flat = json.loads((written / "config.json").read_text())["quantization_config"]
    static = {"dynamic": False, "num_bits": 8, "type": "float"}
    assert flat["quant_algo"] == "FP8"
    assert flat["config_groups"]["group_0"] == {
        "input_activations": static,
        "weights": static,
        "targets": ["Linear"],
    }
    for reader, sm in (("tensorrt-llm", 89), ("tensorrt-llm", 90), ("tensorrt-llm", 120), ("edge-llm", 110)):
        check_readable(written, reader, sm=sm)
    with pytest.raises(FormatError, match="a scale for each tensor, .* for SM 89, 90, 120, this is SM 110"):
        check_readable(written, "tensorrt-llm", sm=110)
    with pytest.raises(FormatError, match="which Edge-LLM multiplies from SM 100 on, this is SM 89"):
        check_readable(written, "edge-llm", sm=89)
    with pytest.raises(FormatError, match=r"is FP8, which Orin \(SM 87\) does not multiply"):
        check_readable(written, "edge-llm", sm=87)


def test_a_scale_for_each_row_is_for_hopper(made: tuple[Bundle, dict[str, np.ndarray]], tmp_path: Path) -> None:
    written = write_checkpoint(made[0], "modelopt", tmp_path / "checkpoint")
    check_readable(written, "tensorrt-llm", sm=90)
    with pytest.raises(FormatError, match="a scale for each row, .* for SM 90, this is SM 89") as caught:
        check_readable(written, "tensorrt-llm", sm=89)
    assert "--weight-scales tensor" in str(caught.value.remedy)


def test_a_cache_in_fp8_is_for_devices_that_have_it(tmp_path: Path, plain_manifest: Manifest) -> None:
    bundle, _ = float8_bundle(tmp_path / "bundle", plain_manifest, sm="8.6")
    written = write_checkpoint(bundle, "modelopt", tmp_path / "checkpoint")
    nested = json.loads((written / "hf_quant_config.json").read_text())["quantization"]
    assert nested["kv_cache_quant_algo"] is None
    assert not any(name.endswith("k_scale") for name in read_safetensors(written / "model.safetensors"))


def test_compressed_tensors_decompresses_to_the_bundles_weights(
    made: tuple[Bundle, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    bundle, meant = made
    written = write_checkpoint(bundle, "compressed-tensors", tmp_path / "checkpoint")
    said = json.loads((written / "config.json").read_text())["quantization_config"]
    assert said["format"] == "float-quantized"
    scheme = QuantizationScheme.model_validate(said["config_groups"]["group_0"])
    compressor = BaseCompressor.get_value_from_registry("float-quantized")
    tensors = read_safetensors(written / "model.safetensors")
    for number, (name, expected) in enumerate(meant.items(), start=1):
        state = {
            "weight": torch.from_numpy(tensors[name].copy()).view(torch.float8_e4m3fn),
            "weight_scale": torch.from_numpy(tensors[f"{name}_scale"].astype(np.float32)),
        }
        found = compressor.decompress(state, scheme)["weight"]
        np.testing.assert_array_equal(found.float().numpy(), expected, err_msg=name)
        assert tensors[f"{name.removesuffix('weight')}input_scale"].tolist() == [0.125 * number]


@pytest.mark.parametrize("kind", ["awq", "trtllm-legacy"])
def test_formats_of_int4_refuse_it(made: tuple[Bundle, dict[str, np.ndarray]], kind: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"{kind} holds int4 weights, the decoder of .* is float8"):
        write_checkpoint(made[0], kind, tmp_path / "checkpoint")


def test_orin_does_not_multiply_it(tmp_path: Path, plain_manifest: Manifest) -> None:
    bundle, _ = float8_bundle(tmp_path / "bundle", plain_manifest, sm="8.7")
    with pytest.raises(FormatError, match=r"is FP8, which its device, Orin \(SM 8.7\), does not multiply"):
        write_checkpoint(bundle, "modelopt", tmp_path / "checkpoint")
