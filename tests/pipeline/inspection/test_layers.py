from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.pipeline.inspection.graphs import read_dialects
from phiedge.pipeline.inspection.layers import Layer, QuantisationError, find_layers

DOWN = "model.layers.0.mlp.down_proj"


def layers_of(bundle: Bundle) -> dict[str, Layer]:
    found = find_layers(
        read_dialects(bundle), {f"{DOWN}.weight": QuantisationError(relative_l2=0.125, max_abs_error=0.5)}
    )
    by_name = {layer.name: layer for layer in found}
    assert len(by_name) == len(found)
    return by_name


def test_a_quantised_layer_is_one_in_both_dialects(two_dialects: Bundle) -> None:
    assert layers_of(two_dialects)[DOWN] == Layer(
        name=DOWN,
        part="decoder",
        stored_as="int4",
        scales_as="float16",
        group_size=32,
        shape=(8, 32),
        stored_bytes=128 + 16,
        file="decoder.data",
        offset_bytes=0,
        dialects=("ort", "tensorrt"),
        relative_l2=0.125,
        max_abs_error=0.5,
    )


def test_other_layers_are_of_the_type_of_their_weights(two_dialects: Bundle) -> None:
    found = layers_of(two_dialects)
    head, projector = found["lm_head"], found["mm_projector.0"]
    assert (head.part, head.stored_as, head.group_size, head.scales_as, head.shape) == (
        "lm_head",
        "float16",
        None,
        None,
        (16, 8),
    )
    assert (head.stored_bytes, head.offset_bytes, head.relative_l2) == (256, 144, None)
    assert (projector.part, projector.stored_as, projector.weights) == ("projector", "float32", 16)


def test_products_without_weights_and_weights_without_products_are_no_layers(two_dialects: Bundle) -> None:
    assert list(layers_of(two_dialects)) == ["mm_projector.0", DOWN, "lm_head"]


def test_the_layers_of_a_real_bundle_are_those_of_the_report(tiny_bundle: Bundle, exported_bundle: Path) -> None:
    for bundle in (tiny_bundle, Bundle.open(exported_bundle)):
        facts, precision = bundle.manifest.facts, bundle.manifest.precision
        found = find_layers(read_dialects(bundle), {})
        decoder = [layer for layer in found if layer.part == "decoder"]
        assert len(decoder) == 4 * facts.num_layers
        assert {layer.stored_as for layer in decoder} == {precision.decoder}
        assert {layer.group_size for layer in decoder} == {precision.group_size}
        assert {layer.dialects for layer in found} == {tuple(bundle.manifest.dialects)}
        head = found[-1]
        assert (head.name, head.stored_as) == ("lm_head", precision.lm_head)
        assert head.shape == (facts.vocab_size, facts.hidden_size)
        assert {layer.stored_as for layer in found if layer.part == "vision"} == {precision.vision}
        assert len([layer for layer in found if layer.part == "projector"]) == 2
