import pytest

from phiedge.bundle import Bundle
from phiedge.engines.backends import BACKENDS, open_engines
from phiedge.errors import UsageError


def test_an_unknown_backend_is_refused_with_the_nearest_name(oracle_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no backend 'onxruntime'") as caught:
        open_engines(oracle_bundle, backend="onxruntime", threads=1, capacity=8)
    assert "onnxruntime" in str(caught.value.remedy)


def test_the_default_backend_opens_both_engines(oracle_bundle: Bundle) -> None:
    engines = open_engines(oracle_bundle, backend=None, threads=1, capacity=8)
    assert engines.backend in BACKENDS
    assert engines.decoder.capacity == 8
    assert engines.vision.output_dtype == engines.decoder.input_dtype
