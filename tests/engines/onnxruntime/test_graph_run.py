import numpy as np
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


def test_an_optimiser_that_a_provider_does_without_is_switched_off(oracle_bundle: Bundle) -> None:
    graph, facts = oracle_bundle.file("vision.ort.onnx"), oracle_bundle.manifest.facts
    patches = np.random.default_rng(0).normal(size=(6, 768)).astype(np.float32)
    positions, found = np.ones((6, facts.vision_hidden_size), np.float32), []
    for without in ((), ("ConstantFolding",)):
        run = GraphRun(graph, threads=1, provider=Provider(name=CPU, device="cpu", without=without))
        binding = run.binding()
        binding.bind_cpu_input("patches", patches)
        binding.bind_cpu_input("pos_embed", positions)
        binding.bind_output("features")
        run(binding)
        found.append(binding.copy_outputs_to_cpu()[0])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-5)


def test_entries_for_the_session_reach_onnx_runtime(oracle_bundle: Bundle) -> None:
    strict = Provider(name=CPU, device="cpu", session_config={"session.disable_cpu_ep_fallback": "1"})
    with pytest.raises(BundleError, match="fallback to the CPU EP"):
        GraphRun(oracle_bundle.file("vision.ort.onnx"), threads=1, provider=strict)
