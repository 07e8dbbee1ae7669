import sys
from dataclasses import replace

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.engines.backends import default_backend, open_engines
from phiedge.errors import BundleError, MissingExtraError
from phiedge.runtime.session import Session

BACKEND = "openvino"


def test_the_decoder_runs_on_openvino_and_the_vision_graph_on_onnx_runtime(int4_bundle: Bundle) -> None:
    engines = open_engines(int4_bundle, backend=BACKEND, threads=1, capacity=8)
    assert engines.backend == BACKEND
    assert (type(engines.vision).__name__, type(engines.decoder).__name__) == ("OrtVision", "OpenVinoDecoder")


def test_it_is_used_where_it_is_asked_for_and_nowhere_else(int4_bundle: Bundle) -> None:
    assert default_backend(int4_bundle) == "onnxruntime"


def test_a_bundle_that_is_not_int4_is_refused(oracle_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="a decoder of float32 for .*; openvino runs int4") as caught:
        open_engines(oracle_bundle, backend=BACKEND, threads=1, capacity=8)
    assert "--precision int4" in str(caught.value.remedy)


def test_a_cache_with_scales_of_its_own_is_refused(int4_bundle: Bundle) -> None:
    precision = replace(int4_bundle.manifest.precision, cache="int8")
    bundle = replace(int4_bundle, manifest=replace(int4_bundle.manifest, precision=precision))
    with pytest.raises(BundleError, match="keys and values as int8 .* openvino has no kernel for") as caught:
        open_engines(bundle, backend=BACKEND, threads=1, capacity=8)
    assert caught.value.remedy == "use --backend onnxruntime, or export with --kv-cache float"


def test_without_the_package_the_extra_is_named(int4_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("phiedge.engines.openvino.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError) as caught:
        open_engines(int4_bundle, backend=BACKEND, threads=1, capacity=8)
    assert caught.value.remedy == "pip install 'phiedge[openvino]'"


def test_a_session_answers_as_on_onnx_runtime(tiny_bundle: Bundle) -> None:
    logits = {}
    for backend in ("onnxruntime", BACKEND):
        with Session.open(tiny_bundle.path, threads=1, backend=backend) as session:
            first = session.generate("What does it cost?", max_new_tokens=8)
            again = session.generate("What does it cost?", max_new_tokens=8)
            assert first.token_ids == again.token_ids
            logits[backend] = session.forced_logits("What does it cost?", (5, 6, 7))
    wanted, found = logits["onnxruntime"], logits[BACKEND]
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 0.02
