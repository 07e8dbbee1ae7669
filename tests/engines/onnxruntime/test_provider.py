from phiedge.engines.onnxruntime.provider import CPU, CUDA, cpu, cuda


def test_the_cpu_has_no_options_and_captures_nothing() -> None:
    provider = cpu()
    assert (provider.name, provider.device, dict(provider.options)) == (CPU, "cpu", {})
    assert not provider.captures


def test_cuda_does_not_transpose_weights_in_memory_of_the_host() -> None:
    assert cuda(captures=True).without == ("ConstantFolding",)
    assert cuda(captures=True, folds=True).without == ()
    assert cpu().without == ()


def test_cuda_leaves_no_node_to_the_cpu() -> None:
    for captures in (False, True):
        assert dict(cuda(captures=captures).session_config) == {"session.disable_cpu_ep_fallback": "1"}


def test_cuda_options_are_words_that_onnx_runtime_reads() -> None:
    provider = cuda(captures=True, device_id=1)
    assert (provider.name, provider.device, provider.device_id, provider.captures) == (CUDA, "cuda", 1, True)
    assert dict(provider.options) == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1",
    }
    assert cuda(captures=False).options["enable_cuda_graph"] == "0"
