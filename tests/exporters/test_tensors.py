from pathlib import Path

import pytest

from fake_checkpoints import FakeDims, fake_config
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.tensors import POSITION_TABLE, TOWER_PREFIX, TensorSpec
from published import PUBLISHED_CONFIG, PUBLISHED_PARAMETERS, PUBLISHED_TENSORS

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"


@pytest.fixture(scope="module")
def table() -> dict[str, TensorSpec]:
    return ModelConfig.from_json(PUBLISHED_CONFIG).tensors()


def parameters(table: dict[str, TensorSpec], prefix: str, *, used: bool | None = None) -> int:
    return sum(
        spec.parameters
        for name, spec in table.items()
        if name.startswith(prefix) and (used is None or spec.used is used)
    )


def test_the_15b_has_the_published_number_of_tensors_and_parameters(table: dict[str, TensorSpec]) -> None:
    assert len(table) == PUBLISHED_TENSORS
    assert parameters(table, "") == PUBLISHED_PARAMETERS


@pytest.mark.parametrize(
    ("prefix", "used", "published"),
    [
        ("model.layers.", None, 13_631_897_600),
        ("model.layers.17.", None, 340_797_440),
        ("model.norm.", None, 5_120),
        ("model.embed_tokens.", None, 513_802_240),
        ("lm_head.", None, 513_802_240),
        ("model.mm_projector.", None, 32_122_880),
        (TOWER_PREFIX, True, 397_407_904),
        (TOWER_PREFIX, False, 30_480_160),
        (TOWER_PREFIX + "encoder.layers.26.", False, 15_239_504),
        (TOWER_PREFIX + "post_layernorm.", False, 2_304),
        (TOWER_PREFIX + "head.", False, 15_238_352),
    ],
)
def test_each_part_of_the_15b_has_its_published_size(
    table: dict[str, TensorSpec], prefix: str, used: bool | None, published: int
) -> None:
    assert parameters(table, prefix, used=used) == published


def test_the_15b_splits_into_text_projector_and_vision_as_published(table: dict[str, TensorSpec]) -> None:
    vision = [name for name in table if name.startswith(TOWER_PREFIX)]
    projector = [name for name in table if name.startswith("model.mm_projector.")]
    assert (len(table) - len(vision) - len(projector), len(projector), len(vision)) == (243, 4, 448)


def test_only_the_last_vision_block_its_norm_and_the_pooling_head_are_unused(table: dict[str, TensorSpec]) -> None:
    unused = [name for name, spec in table.items() if not spec.used]
    parts = ("encoder.layers.26.", "post_layernorm.", "head.")
    assert len(unused) == 16 + 2 + 11
    assert all(name.removeprefix(TOWER_PREFIX).startswith(parts) for name in unused)
    assert table[TOWER_PREFIX + "encoder.layers.25.mlp.fc2.bias"].used
    assert table[POSITION_TABLE] == TensorSpec(shape=(256, 1152), used=True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.39.self_attn.qkv_proj.weight", (7680, 5120)),
        ("model.layers.0.mlp.gate_up_proj.weight", (35840, 5120)),
        ("model.layers.0.mlp.down_proj.weight", (5120, 17920)),
        ("model.mm_projector.0.weight", (5120, 1152)),
        (TOWER_PREFIX + "embeddings.patch_embedding.weight", (1152, 768)),
        (TOWER_PREFIX + "head.probe", (1, 1, 1152)),
        (TOWER_PREFIX + "head.attention.in_proj_weight", (3456, 1152)),
    ],
)
def test_shapes_of_the_15b(table: dict[str, TensorSpec], name: str, shape: tuple[int, ...]) -> None:
    assert table[name].shape == shape


def test_the_list_is_exactly_what_the_publishers_code_wrote_into_the_oracle() -> None:
    with open_checkpoint(ORACLE) as oracle:
        stored = {name: oracle.shape(name) for name in oracle.names()}
        assert stored == {name: spec.shape for name, spec in oracle.config.tensors().items()}
    assert len(stored) == 89
    assert sum(spec.parameters for spec in oracle.config.tensors().values()) == 1_044_368


def test_a_tower_without_a_pooling_head_has_no_tensors_for_one() -> None:
    config = fake_config(FakeDims())
    assert isinstance(config["vision_config"], dict)
    config["vision_config"]["vision_use_head"] = False
    table = ModelConfig.from_json(config).tensors()
    assert not [name for name in table if ".head." in name]
    assert TOWER_PREFIX + "post_layernorm.weight" in table
