import pytest

from phiedge.bundle import Bundle
from phiedge.engines.onnxruntime.graph_run import GraphRun
from phiedge.engines.onnxruntime.provider import CPU, Provider
from phiedge.errors import BundleError, SessionError


def test_a_provider_that_onnx_runtime_replaces_by_the_cpu_is_an_error(oracle_bundle: Bundle) -> None:
    missing = Provider(name="XnnpackExecutionProvider", device="cpu")
    with pytest.warns(UserWarning, match="XnnpackExecutionProvider"):
        with pytest.raises(SessionError, match="on XnnpackExecutionProvider: it has opened it on CPU") as caught:
            GraphRun(oracle_bundle.file("vision.ort.onnx"), threads=1, provider=missing)
    assert "docs/guides/gpu.md" in str(caught.value.remedy)


def test_entries_for_the_session_reach_onnx_runtime(oracle_bundle: Bundle) -> None:
    strict = Provider(name=CPU, device="cpu", session_config={"session.disable_cpu_ep_fallback": "1"})
    with pytest.raises(BundleError, match="fallback to the CPU EP"):
        GraphRun(oracle_bundle.file("vision.ort.onnx"), threads=1, provider=strict)
