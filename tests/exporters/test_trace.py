import subprocess
import sys
import textwrap

import onnx_ir as ir
import pytest

from phiedge.exporters.config import ModelConfig
from phiedge.exporters.graph_io import decoder_io, vision_io
from phiedge.exporters.trace import SCOPE, trace_decoder, trace_vision


@pytest.fixture(scope="module")
def config(oracle_checkpoint) -> ModelConfig:
    return oracle_checkpoint.config


@pytest.fixture(scope="module")
def vision(config) -> ir.Model:
    return trace_vision(config, "float32")


@pytest.fixture(scope="module")
def decoder(config) -> ir.Model:
    return trace_decoder(config, "float16", max_context=64)


def ports(values) -> list[tuple]:
    return [(value.name, tuple(getattr(dim, "value", dim) for dim in value.shape)) for value in values]


def operators(model: ir.Model) -> set[str]:
    return {node.op_type for node in model.graph}


def test_inputs_and_outputs_are_those_of_graph_io(config, vision, decoder) -> None:
    for model, io in ((vision, vision_io(config)), (decoder, decoder_io(config))):
        assert model.graph.name == io.name
        assert ports(model.graph.inputs) == [(port.name, port.shape) for port in io.inputs]
        assert ports(model.graph.outputs) == [(port.name, port.shape) for port in io.outputs]


def test_a_float16_decoder_takes_and_caches_float16_but_answers_in_float32(decoder) -> None:
    types = {value.name: value.dtype for value in (*decoder.graph.inputs, *decoder.graph.outputs)}
    assert types.pop("logits") == ir.DataType.FLOAT
    assert types.pop("seqlens_k") == types.pop("total_sequence_length") == ir.DataType.INT32
    assert set(types.values()) == {ir.DataType.FLOAT16}


def test_the_decoder_is_matrix_products_norms_and_one_attention_operator(decoder) -> None:
    assert operators(decoder) == {
        "Add",
        "CachedAttention",
        "Cast",
        "MatMul",
        "Mul",
        "RMSNormalization",
        "Sigmoid",
        "Slice",
        "Split",
        "Transpose",
    }


def test_the_vision_graph_has_no_mask_no_resize_and_no_loop(vision) -> None:
    assert operators(vision) == {"Add", "Attention", "Gelu", "Gemm", "LayerNormalization", "Squeeze", "Unsqueeze"}


def test_weights_have_names_types_and_shapes_but_no_values(config, decoder) -> None:
    weights = {name: value for name, value in decoder.graph.initializers.items() if value.const_value is None}
    assert set(weights) == {
        *(name for name in config.tensors() if name.startswith(("model.layers.", "model.norm.", "lm_head."))),
        "cos_cache",
        "sin_cache",
    }
    assert {value.dtype for value in weights.values()} == {ir.DataType.FLOAT16}
    assert tuple(weights["lm_head.weight"].shape) == (config.vocab_size, config.hidden_size)


def test_only_the_last_row_goes_through_the_last_mlp(config, decoder) -> None:
    last = f"model.layers.{config.num_layers - 1}.mlp.down_proj"
    product = next(node for node in decoder.graph if node.op_type == "MatMul" and node.metadata_props[SCOPE] == last)
    assert tuple(product.outputs[0].shape) == (1, 1, config.hidden_size)


def test_nothing_in_a_traced_graph_says_where_it_was_made(vision, decoder) -> None:
    for model in (vision, decoder):
        text = str(ir.serde.serialize_model(model))
        for trace_of_a_machine in ("site-packages", ".py", "pkg.torch"):
            assert trace_of_a_machine not in text


@pytest.mark.parametrize("layers", [2])
def test_a_full_width_decoder_is_traced_in_less_memory_than_one_of_its_layers_would_take(layers) -> None:
    script = f"""
        from pathlib import Path
        from published import PUBLISHED_CONFIG
        from phiedge.exporters.config import ModelConfig
        from phiedge.exporters.trace import trace_decoder
        config = ModelConfig.from_json(PUBLISHED_CONFIG | {{"num_hidden_layers": {layers}}})
        trace_decoder(config, "float32", max_context=16384)
        # Not getrusage: it begins with the peak of the process that this one was started by.
        print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024)
    """
    support = [path for path in sys.path if path.endswith("support")]
    finished = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path += {support}\n" + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak_bytes = int(finished.stdout)
    assert peak_bytes < 1 << 30  # one layer is 1.36 GB as float32, the head 2.05 GB
    assert finished.stderr == ""
