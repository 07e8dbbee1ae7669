from phiedge.exporters.config import ModelConfig
from phiedge.exporters.graph_io import Port, decoder_io, positioned_decoder_io, row_output_decoder_io, vision_io
from published import PUBLISHED_CONFIG

CONFIG = ModelConfig.from_json(PUBLISHED_CONFIG)


def test_the_vision_graph_takes_patches_and_positions_and_gives_decoder_rows() -> None:
    io = vision_io(CONFIG)
    assert [(port.name, port.shape) for port in io.inputs] == [
        ("patches", ("patches", 768)),
        ("pos_embed", ("patches", 1152)),
    ]
    assert [(port.name, port.shape) for port in io.outputs] == [("features", ("patches", 5120))]


def test_the_decoder_takes_a_cache_for_every_layer_and_gives_it_back() -> None:
    io = decoder_io(CONFIG)
    names = [port.name for port in io.inputs]
    assert names[:4] == ["inputs_embeds", "seqlens_k", "total_sequence_length", "past.0.key"]
    assert names[-1] == "past.39.value"
    assert [port.name for port in io.outputs][:3] == ["logits", "present.0.key", "present.0.value"]
    assert len(io.inputs) == 3 + 80
    assert len(io.outputs) == 1 + 80
    past = [port for port in io.inputs if port.name.startswith("past.")]
    present = [port for port in io.outputs if port.name.startswith("present.")]
    assert {port.shape for port in past + present} == {(1, 10, "capacity", 128)}


def test_logits_are_float32_whatever_the_graph_computes_in_and_lengths_are_int32() -> None:
    io = decoder_io(CONFIG)
    assert io.outputs[0] == Port(name="logits", shape=(1, 1, 100352), dtype="float32")
    assert {port.name for port in io.inputs if port.dtype == "int32"} == {"seqlens_k", "total_sequence_length"}


def test_the_decoders_of_the_tensorrt_dialects_differ_only_in_what_they_give_of_a_cache() -> None:
    modern, conservative = (make(CONFIG, max_context=512) for make in (positioned_decoder_io, row_output_decoder_io))
    assert conservative.inputs == modern.inputs
    assert [port.name for port in conservative.inputs[:3]] == ["inputs_embeds", "position_ids", "last_row"]
    assert conservative.outputs[0] == modern.outputs[0]
    assert [port.name for port in conservative.outputs] == [port.name for port in modern.outputs]
    assert {port.shape for port in conservative.inputs[3:]} == {(1, 10, 512, 128)}
    assert {port.shape for port in modern.outputs[1:]} == {(1, 10, 512, 128)}
    assert {port.shape for port in conservative.outputs[1:]} == {(1, 10, "chunk_tokens", 128)}


def test_a_port_tells_its_dynamic_axes_and_fills_them_in() -> None:
    port = Port(name="past.0.key", shape=(1, 10, "capacity", 128), dtype="float")
    assert port.dynamic_axes == {2: "capacity"}
    assert port.sized({"capacity": 7, "patches": 1}) == (1, 10, 7, 128)
    assert Port(name="scalar", shape=(), dtype="int32").dynamic_axes == {}
