"""ModelOpt's format: unpacked here from its definition, and with what its readers ask for by name and shape."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.exporters.checkpoints.modelopt import pack_rows
from phiedge.exporters.quantised import QuantisedWeight
from stored_numbers import unfused_numbers
from text_models import llama_logits, read_safetensors


@pytest.fixture(scope="module")
def checkpoint(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(gpu_bundle, "modelopt", tmp_path_factory.mktemp("modelopt") / "checkpoint")


@pytest.fixture(scope="module")
def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    return read_safetensors(checkpoint / "model.safetensors")


def unpacked(codes: np.ndarray) -> np.ndarray:
    """int8 [out, in] from uint8 [out / 2, in], two's complement, the earlier row in the lower half."""
    lower, upper = codes & 15, codes >> 4
    nibbles = np.stack([lower, upper], axis=1).reshape(-1, codes.shape[1]).astype(np.int8)
    return np.where(nibbles > 7, nibbles - 16, nibbles)


def dequantised(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for name, array in tensors.items():
        if not name.endswith(".weight"):
            continue
        if array.dtype == np.uint8:
            scales = tensors[f"{name}_scale"]
            codes = unpacked(array)
            array = codes * np.repeat(scales, codes.shape[1] // scales.shape[1], axis=1)
        found[name] = array
    return found


def test_every_weight_is_exactly_the_bundles(gpu_bundle: Bundle, tensors: dict[str, np.ndarray]) -> None:
    facts = gpu_bundle.manifest.facts
    expected = unfused_numbers(gpu_bundle.path, facts.num_heads, facts.num_kv_heads, facts.head_dim)
    found = dequantised(tensors)
    assert found.keys() == expected.keys() | {"model.embed_tokens.weight"}
    for name in expected.keys() - {"lm_head.weight"}:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_llama_of_these_weights_has_the_bundles_logits(checkpoint: Path, tensors: Any, asked: Any) -> None:
    logits = llama_logits(checkpoint, dequantised(tensors), asked.tokens)
    np.testing.assert_allclose(logits, asked.logits, rtol=0, atol=6e-3)


def test_readers_find_the_tensors_and_shapes_that_they_ask_for(
    gpu_bundle: Bundle, tensors: dict[str, np.ndarray]
) -> None:
    # W4A16_AWQLinearMethod of TensorRT-LLM 1.3, `_torch/modules/linear.py`: weight uint8 [out / 2, in] and weight_scale
    # [out, in / group_size] of every linear, pre_quant_scale [in] indexed without a look for o_proj and down_proj.
    linears = [name.removesuffix(".weight") for name, array in tensors.items() if array.dtype == np.uint8]
    assert len(linears) == 7 * gpu_bundle.manifest.facts.num_layers
    for name in linears:
        rows, k = 2 * tensors[f"{name}.weight"].shape[0], tensors[f"{name}.weight"].shape[1]
        assert tensors[f"{name}.weight_scale"].dtype == np.float32
        assert tensors[f"{name}.weight_scale"].shape == (rows, k // 128)
        if re.search(r"\.(o_proj|down_proj)$", name):
            np.testing.assert_array_equal(tensors[f"{name}.pre_quant_scale"], np.ones(k, np.float16))
        else:
            assert f"{name}.pre_quant_scale" not in tensors


def test_both_places_where_readers_look_say_the_same(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    nested = json.loads((checkpoint / "hf_quant_config.json").read_text())["quantization"]
    assert config["quant_method"] == "modelopt"
    for key in ("quant_algo", "group_size", "has_zero_point", "pre_quant_scale"):
        assert config[key] == nested[key]
    assert (nested["quant_algo"], nested["group_size"]) == ("W4A16_AWQ", 128)
    assert config["ignore"] == nested["exclude_modules"] == ["lm_head", "model.embed_tokens"]


def test_a_byte_holds_two_rows() -> None:
    codes = np.array([[-8, 7, 1, 0], [-1, 2, 3, -4]], np.int8).repeat(32, axis=1)
    weight = QuantisedWeight.of_codes(codes, np.ones((2, 1), np.float32), bits=4, group_size=128)
    assert [f"{byte:02x}" for byte in pack_rows(weight)[0, ::32]] == ["f8", "27", "31", "c0"]
