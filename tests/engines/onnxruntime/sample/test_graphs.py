"""A sample has the operators of an exported graph, one for one, with the same attributes and shapes of weights."""

from pathlib import Path

import onnx

from phiedge.bundle import Bundle
from phiedge.engines.onnxruntime.sample.decoder import DecoderSample
from phiedge.engines.onnxruntime.sample.vision import vision_graph

PREPARED = ("Cast", "Transpose")  # what ONNX Runtime computes of weights when it opens a graph


def told(model: onnx.ModelProto) -> list[tuple[object, ...]]:
    """Operators as they follow each other, with the shapes of their weights; an input that is none has None."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in PREPARED:
            shapes[node.output[0]] = shapes[node.input[0]][:: -1 if node.op_type == "Transpose" else 1]
    return [
        (
            node.domain,
            node.op_type,
            [bool(name) for name in node.output],
            [(bool(name), shapes.get(name)) for name in node.input],
            {attribute.name: plain(onnx.helper.get_attribute_value(attribute)) for attribute in node.attribute},
        )
        for node in model.graph.node
        if node.op_type not in PREPARED
    ]


def plain(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def exported(bundle: Bundle, graph: str) -> onnx.ModelProto:
    path: Path = bundle.file(getattr(bundle.manifest.dialects["ort"], graph))
    return onnx.load(path, load_external_data=False)


def sampled_decoder(bundle: Bundle) -> onnx.ModelProto:
    manifest = bundle.manifest
    sample = DecoderSample(
        facts=manifest.facts,
        precision=manifest.precision,
        layers=manifest.facts.num_layers - 1,
        vocabulary=manifest.facts.vocab_size,
        capacity=manifest.max_context,
    )
    return onnx.load_from_string(sample.graph().to_bytes())


def test_layers_of_integers_are_written_as_they_are_exported(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.manifest.precision.decoder == "int4"
    assert told(sampled_decoder(tiny_bundle)) == told(exported(tiny_bundle, "decoder"))


def test_layers_of_floats_are_written_as_they_are_exported(oracle_bundle: Bundle) -> None:
    assert oracle_bundle.manifest.precision.decoder == "float32"
    assert told(sampled_decoder(oracle_bundle)) == told(exported(oracle_bundle, "decoder"))


def test_a_cache_of_8_bits_is_written_as_it_is_exported(int8_bundle: Bundle) -> None:
    assert int8_bundle.manifest.precision.cache == "int8"
    assert told(sampled_decoder(int8_bundle)) == told(exported(int8_bundle, "decoder"))


def test_blocks_of_the_vision_encoder_are_written_as_they_are_exported(tiny_bundle: Bundle) -> None:
    facts = tiny_bundle.manifest.facts
    written = onnx.load_from_string(vision_graph(facts, blocks=facts.vision_layers_used).to_bytes())
    assert told(written) == told(exported(tiny_bundle, "vision"))
