import numpy as np
import pytest

from phiedge.errors import ExportError
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.config import ModelConfig

CHANNELS = 2 * 16


@pytest.fixture
def config(tiny_checkpoint) -> ModelConfig:
    from phiedge.exporters.checkpoint import open_checkpoint

    with open_checkpoint(str(tiny_checkpoint)) as checkpoint:
        return checkpoint.config


def scales(*, layers: int = 2, channels: int = CHANNELS, value: float = 0.1) -> CacheScales:
    sides = np.full(channels, 0.1, np.float32), np.full(channels, value, np.float32)
    return CacheScales(layers=[sides] * layers)


def test_scales_of_the_model_are_taken(config: ModelConfig) -> None:
    scales().check(config)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (scales(layers=1), "scales for the caches of 1 layers, the model has 2"),
        (scales(channels=31), r"layer 0: the scales of keys have shape \[31\], not \[32\]"),
        (scales(value=np.nan), "layer 0: the scale of values in channel 0 is nan"),
        (scales(value=np.inf), "layer 0: the scale of values in channel 0 is inf"),
        (scales(value=0.0), r"layer 0: the scale of values in channel 0 is 0\.0"),
        (scales(value=-1.0), r"layer 0: the scale of values in channel 0 is -1\.0"),
    ],
)
def test_scales_that_are_missing_or_none_are_refused(config: ModelConfig, wrong: CacheScales, message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        wrong.check(config)
    assert "calibrate again" in str(caught.value.remedy)


def test_one_changed_scale_is_another_digest() -> None:
    one, other = scales(), scales()
    other.layers[1][0][3] = np.nextafter(np.float32(0.1), np.float32(1))
    assert one.digest() != other.digest()
    assert one.digest() == scales().digest()
