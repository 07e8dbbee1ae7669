import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import phiedge.exporters.optimum as bridge
from fake_checkpoints import FakeDims, fake_config
from phiedge.errors import ConfigError, UsageError
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.graph_io import decoder_io, vision_io

ROOT = Path(__file__).parents[2]
CONFIG = ModelConfig.from_json(fake_config(FakeDims()))


class TransformersConfig:
    """What a configuration class of transformers looks like from outside."""

    def to_dict(self) -> dict[str, object]:
        return fake_config(FakeDims())


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("part", "io"), [("vision", vision_io(CONFIG)), ("decoder", decoder_io(CONFIG))])
def test_optimum_is_told_what_graph_io_states(part: str, io: Any) -> None:
    config = bridge.Phi4SiglipExporterConfig(CONFIG, part=part)
    assert config.inputs == {port.name: port.dynamic_axes for port in io.inputs}
    assert config.outputs == {port.name: port.dynamic_axes for port in io.outputs}
    assert config.values_override is None


@pytest.mark.parametrize("float_dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(("part", "io"), [("vision", vision_io(CONFIG)), ("decoder", decoder_io(CONFIG))])
def test_dummy_inputs_have_the_stated_shapes_and_types(part: str, io: Any, float_dtype: str) -> None:
    sizes = {"patches": 3, "chunk_tokens": 2, "capacity": 9}
    config = bridge.Phi4SiglipExporterConfig(CONFIG, part=part, float_dtype=float_dtype)
    dummies = config.generate_dummy_inputs(**sizes)
    floats = {"fp32": torch.float32, "fp16": torch.float16}[float_dtype]
    assert list(dummies) == [port.name for port in io.inputs]
    for port in io.inputs:
        assert tuple(dummies[port.name].shape) == port.sized(sizes)
        assert dummies[port.name].dtype == (torch.int32 if port.dtype == "int32" else floats)


def test_dummy_lengths_describe_a_first_chunk_that_fits_the_cache() -> None:
    dummies = bridge.Phi4SiglipExporterConfig(CONFIG).generate_dummy_inputs()
    tokens = dummies["inputs_embeds"].shape[1]
    assert dummies["total_sequence_length"].item() == tokens
    assert dummies["seqlens_k"].tolist() == [tokens - 1]
    assert dummies["past.0.key"].shape[2] > tokens


@pytest.mark.parametrize("config", [CONFIG, fake_config(FakeDims()), TransformersConfig()])
def test_a_configuration_may_come_from_phiedge_or_from_transformers(config: object) -> None:
    assert bridge.Phi4SiglipExporterConfig(config).inputs == bridge.Phi4SiglipExporterConfig(CONFIG).inputs


def test_something_else_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="a int is not a model configuration"):
        bridge.Phi4SiglipExporterConfig(3)


@pytest.mark.parametrize(
    "options", [{"task": "text-generation"}, {"part": "audio"}, {"int_dtype": "int64"}, {"float_dtype": "bf16"}]
)
def test_what_the_graphs_are_not_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        bridge.Phi4SiglipExporterConfig(CONFIG, **options)
    assert caught.value.remedy is not None


@pytest.mark.parametrize("options", [{"framework": "tf"}, {"batch_size": 2}])
def test_dummy_inputs_that_do_not_exist_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no dummy inputs"):
        bridge.Phi4SiglipExporterConfig(CONFIG).generate_dummy_inputs(**options)


def test_the_tasks_manager_finds_the_architecture_once_it_is_registered() -> None:
    """In a process of its own: what Optimum imports warns about itself."""
    out = run(
        "from phiedge.exporters.optimum import register, Phi4SiglipExporterConfig\n"
        "from optimum.exporters.tasks import TasksManager as T\n"
        "register(); register()\n"
        "build = T.get_exporter_config_constructor('phiedge', model_type='phi4-siglip', task='image-text-to-text',\n"
        "    library_name='transformers', exporter_config_kwargs={'part': 'vision'})\n"
        f"print(list(build({fake_config(FakeDims())!r}).inputs))\n"
    )
    assert out.splitlines()[-1] == "['patches', 'pos_embed']"


def test_importing_the_bridge_leaves_the_tasks_manager_alone() -> None:
    out = run("import sys, phiedge.exporters.optimum\nprint('optimum.exporters.tasks' in sys.modules)")
    assert out.splitlines()[-1] == "False"
