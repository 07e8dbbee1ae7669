"""AWQ: unpacked here from the format's definition, every weight is the bundle's, and so are the logits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.exporters.checkpoints.awq import pack_awq
from phiedge.exporters.quantised import QuantisedWeight
from stored_numbers import decoder_numbers, unfused_numbers
from text_models import llama_logits, read_safetensors

# Output c of eight lies in this nibble: the inverse of the order in which the format interleaves them.
NIBBLE_OF_OUTPUT = (0, 4, 1, 5, 2, 6, 3, 7)


def unpacked(words: np.ndarray) -> np.ndarray:
    """[n, outputs] from int32 [n, outputs / 8]."""
    shifts = np.array([4 * nibble for nibble in NIBBLE_OF_OUTPUT], np.uint32)
    return ((words.view(np.uint32)[:, :, None] >> shifts) & 15).reshape(words.shape[0], -1).astype(np.int32)


def dequantised(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {name: array for name, array in tensors.items() if name.endswith(".weight")}
    for name in tensors:
        linear, mark, _ = name.rpartition(".qweight")
        if mark:
            codes, zeros = unpacked(tensors[name]), unpacked(tensors[f"{linear}.qzeros"])
            scales = tensors[f"{linear}.scales"].astype(np.float32)
            runs = codes.shape[0] // scales.shape[0]
            values = (codes - np.repeat(zeros, runs, axis=0)) * np.repeat(scales, runs, axis=0)
            found[f"{linear}.weight"] = values.T
    return found


@pytest.fixture(scope="module")
def checkpoint(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(gpu_bundle, "awq", tmp_path_factory.mktemp("awq") / "checkpoint")


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    return dequantised(read_safetensors(checkpoint / "model.safetensors"))


def test_every_weight_is_exactly_the_bundles(gpu_bundle: Bundle, weights: dict[str, np.ndarray]) -> None:
    facts = gpu_bundle.manifest.facts
    expected = unfused_numbers(gpu_bundle.path, facts.num_heads, facts.num_kv_heads, facts.head_dim)
    assert weights.keys() == expected.keys() | {"model.embed_tokens.weight"}
    for name in expected.keys() - {"lm_head.weight"}:
        np.testing.assert_array_equal(weights[name], expected[name], err_msg=name)


def test_the_head_is_the_bundles_in_float16(gpu_bundle: Bundle, weights: dict[str, np.ndarray]) -> None:
    exact = decoder_numbers(gpu_bundle.path)["lm_head.weight"]
    assert weights["lm_head.weight"].dtype == np.float16
    np.testing.assert_array_equal(weights["lm_head.weight"], exact.astype(np.float16))


def test_a_llama_of_these_weights_has_the_bundles_logits(
    gpu_bundle: Bundle, checkpoint: Path, weights: dict[str, np.ndarray], asked: Any
) -> None:
    logits = llama_logits(checkpoint, weights, asked.tokens)
    assert int(logits.argmax()) == int(asked.logits.argmax())
    np.testing.assert_allclose(logits, asked.logits, rtol=0, atol=6e-3)  # up to 23; the head was rounded to float16
    exact = weights | {"lm_head.weight": decoder_numbers(gpu_bundle.path)["lm_head.weight"]}
    np.testing.assert_allclose(llama_logits(checkpoint, exact, asked.tokens), asked.logits, rtol=0, atol=1e-4)


def test_config_says_what_readers_of_awq_look_for(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["quantization_config"] == {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": ["lm_head"],
    }


def test_one_word_holds_its_eight_outputs_in_the_formats_order() -> None:
    codes = np.arange(-8, 8, dtype=np.int8).reshape(8, 2).repeat(64, axis=1)  # [outputs, k]
    weight = QuantisedWeight.of_codes(codes, np.ones((8, 1), np.float32), bits=4, group_size=128)
    words = pack_awq(weight)
    assert words.shape == (128, 1)
    assert f"{words[0, 0].view(np.uint32):08x}" == "ea62c840"  # outputs 7 5 3 1 6 4 2 0, from the highest nibble down


def test_groups_other_than_128_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="groups of 128 weights, .* has groups of 32") as refused:
        write_checkpoint(tiny_bundle, "awq", tmp_path / "checkpoint")
    assert "--target orin" in str(refused.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_integers_is_refused(oracle_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="awq holds int4 weights, the decoder of .* is float32"):
        write_checkpoint(oracle_bundle, "awq", tmp_path / "checkpoint")
