"""compressed-tensors, loaded by the libraries that define it: the same weights exactly, the same logits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from transformers import Phi3Config, Phi3ForCausalLM

from phiedge.bundle import Bundle
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.exporters.config import ModelConfig
from stored_numbers import decoder_numbers
from text_models import read_safetensors


@pytest.fixture(scope="module")
def checkpoint(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(gpu_bundle, "compressed-tensors", tmp_path_factory.mktemp("compressed") / "checkpoint")


def text_config(checkpoint: Path) -> Phi3Config:
    """The decoder's part of config.json: the whole model's class is the publisher's code, which tests do not have."""
    config = json.loads((checkpoint / "config.json").read_text())
    known = Phi3Config().to_dict().keys() - {"model_type", "architectures"} | {"rope_theta"}
    return Phi3Config(**{key: value for key, value in config.items() if key in known})


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Any:
    said = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    config = text_config(checkpoint)
    config.quantization_config = said
    return Phi3ForCausalLM.from_pretrained(checkpoint, config=config, dtype=torch.float32).eval()


def test_the_librarys_unpacking_gives_the_bundles_weights_exactly(gpu_bundle: Bundle, checkpoint: Path) -> None:
    tensors = read_safetensors(checkpoint / "model.safetensors")
    expected = decoder_numbers(gpu_bundle.path)
    packed = [name for name in tensors if name.endswith(".weight_packed")]
    assert len(packed) == 4 * gpu_bundle.manifest.facts.num_layers
    for name in packed:
        linear = name.removesuffix("_packed")
        shape = torch.Size(tensors[f"{linear}_shape"].tolist())
        codes = unpack_from_int32(torch.from_numpy(tensors[name].copy()), 4, shape).numpy()
        scales = np.repeat(tensors[f"{linear}_scale"].astype(np.float32), 128, axis=1)
        np.testing.assert_array_equal(codes * scales, expected[linear], err_msg=name)


def test_transformers_computes_the_bundles_logits(loaded: Any, asked: Any) -> None:
    with torch.no_grad():
        logits = loaded(torch.tensor([asked.tokens])).logits[0, -1].numpy()
    np.testing.assert_allclose(logits, asked.logits, rtol=0, atol=6e-3)  # up to 23; the head is float16


def test_config_is_one_that_the_exporter_itself_reads_as_the_same_model(gpu_bundle: Bundle, checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    del config["quantization_config"]
    read = ModelConfig.from_json(
        config,
        generation=json.loads((checkpoint / "generation_config.json").read_text()),
        preprocessor=json.loads((checkpoint / "preprocessor_config.json").read_text()),
        tokenizer=json.loads((checkpoint / "tokenizer.json").read_text()),
    )
    assert read.facts() == gpu_bundle.manifest.facts
    assert read.vision_layer_norm_eps == 1e-6


def test_every_tensor_that_inference_uses_is_there_under_the_publishers_name(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    del config["quantization_config"]
    used = {name: spec.shape for name, spec in ModelConfig.from_json(config).tensors().items() if spec.used}
    tensors = read_safetensors(checkpoint / "model.safetensors")
    plain = {name: array.shape for name, array in tensors.items() if name.endswith((".weight", ".bias"))}
    packed = {
        name.removesuffix("_shape"): tuple(array.tolist())
        for name, array in tensors.items()
        if name.endswith(".weight_shape")
    }
    assert plain | packed == used


def test_the_vision_tower_is_the_bundles(gpu_bundle: Bundle, checkpoint: Path) -> None:
    import onnx

    tensors = read_safetensors(checkpoint / "model.safetensors")
    graph = onnx.load(gpu_bundle.path / "vision.ort.onnx").graph
    stored = {one.name.removesuffix(".float16"): onnx.numpy_helper.to_array(one) for one in graph.initializer}
    tower = "model.vision_tower.vision_tower.vision_model."
    for name in ("encoder.layers.1.mlp.fc1.weight", "encoder.layers.0.layer_norm1.bias"):
        np.testing.assert_array_equal(tensors[tower + name], stored[f"tower.{name}"])
    np.testing.assert_array_equal(tensors["model.mm_projector.2.bias"], stored["mm_projector.2.bias"])


def test_tower_projector_and_head_are_said_to_be_plain(checkpoint: Path) -> None:
    said = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    assert said["ignore"] == ["lm_head", "re:.*vision_tower.*", "re:.*mm_projector.*", "re:.*multi_modal_projector.*"]
    assert said["config_groups"]["group_0"]["weights"]["group_size"] == 128


def test_groups_of_32_are_held(tiny_bundle: Bundle, tmp_path: Path) -> None:
    written = write_checkpoint(tiny_bundle, "compressed-tensors", tmp_path / "checkpoint")
    said = json.loads((written / "config.json").read_text())["quantization_config"]
    assert said["config_groups"]["group_0"]["weights"]["group_size"] == 32
