from dataclasses import replace

import pytest
import torch

from phiedge.calibration.divergence import Divergence
from phiedge.calibration.partial_models import PartialModels
from phiedge.calibration.sensitivity import LinearSizes, choose_wider, judging_samples, measure_sensitivity
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.precision import INT4, for_tensorrt

COSTS = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.0}
MORE_BYTES = {"a": 400, "b": 100, "c": 150, "d": 10}


@pytest.mark.parametrize(
    ("budget_bytes", "wider"),
    [
        (0, ()),
        (99, ()),
        (100, ("b",)),
        (250, ("b", "c")),
        (500, ("b", "c")),
        (650, ("a", "b", "c")),
        (9999, ("a", "b", "c")),
    ],
)
def test_the_most_divergence_for_a_byte_comes_first_and_what_costs_nothing_never(budget_bytes, wider) -> None:
    assert choose_wider(COSTS, MORE_BYTES, budget_bytes) == wider


def test_a_size_is_that_of_codes_and_scales(tiny_checkpoint) -> None:
    with open_checkpoint(tiny_checkpoint) as checkpoint:
        sizes = LinearSizes.of(checkpoint.config, replace(INT4, group_size=32))
        name = "model.layers.0.self_attn.o_proj.weight"
        rows, columns = checkpoint.shape(name)
        assert sizes.planned[name] == rows * columns // 2 + 4 * rows * columns // 32
        assert sizes.more[name] == rows * columns // 2
        assert sizes.together((name,)) == sum(sizes.planned.values()) + sizes.more[name]


def test_for_tensorrt_more_bits_are_float16(tiny_checkpoint) -> None:
    with open_checkpoint(tiny_checkpoint) as checkpoint:
        sizes = LinearSizes.of(checkpoint.config, for_tensorrt(replace(INT4, group_size=32)))
        name = "model.layers.0.self_attn.o_proj.weight"
        rows, columns = checkpoint.shape(name)
        assert sizes.planned[name] + sizes.more[name] == 2 * rows * columns


def test_held_out_samples_with_most_text_judge(picture_sample) -> None:
    samples = [
        picture_sample("in the sums", 500, 0),
        picture_sample("mostly picture", 100, 600, held_out=True),
        picture_sample("text", 400, 10, held_out=True),
        picture_sample("more text", 500, 0, held_out=True),
    ]
    assert [sample.name for sample in judging_samples(samples, 1000)] == ["more text", "text"]
    assert [sample.name for sample in judging_samples(samples, 10)] == ["text"], "at least one has to"


def test_what_was_measured_before_a_kill_is_not_measured_again(
    tiny_checkpoint, text_samples, tmp_path, monkeypatch
) -> None:
    measured: list[int] = []

    def divergences(self, samples, choices):
        measured.append(len(choices))
        if len(measured) == 2:
            raise KeyboardInterrupt
        return [Divergence(rows=1, kl_mean=0.1 * (place + 1), top1_agreement=0.9) for place in range(len(choices))]

    monkeypatch.setattr(PartialModels, "divergences", divergences)
    with open_checkpoint(tiny_checkpoint) as checkpoint:
        sizes = LinearSizes.of(checkpoint.config, replace(INT4, group_size=32))
        models, others = (
            PartialModels(
                source=checkpoint,
                artefacts=lambda layer: pytest.fail("read"),
                key=key,
                compute=torch.float32,
                directory=tmp_path,
            )
            for key in ("key", "another key")
        )
        with pytest.raises(KeyboardInterrupt):
            measure_sensitivity(models, text_samples(), sizes)
        found = measure_sensitivity(models, text_samples(), sizes)
        assert measured[0] == len(found.linears) == 8
        assert measured[1:] == [measured[1]] * 2, "the curve alone was measured again"
        measure_sensitivity(others, text_samples(), sizes)
    assert measured[3] == 8
