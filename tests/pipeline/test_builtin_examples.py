import numpy as np

from phiedge.pipeline.builtin_examples import BUILTIN_EXAMPLES, builtin_examples


def test_they_are_always_the_same() -> None:
    first, second = (list(builtin_examples(patch_size=16, max_patches=256, count=16)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.told, a.prompt, a.thinking, a.answer) == (b.told, b.prompt, b.thinking, b.answer)
        assert all(np.array_equal(p, q) for p, q in zip(a.images, b.images, strict=True))


def test_scenes_pages_charts_and_sums_with_and_without_thinking() -> None:
    examples = list(builtin_examples(patch_size=16, max_patches=256))
    assert len(examples) == BUILTIN_EXAMPLES
    kinds = {example.told.split("(")[1].rstrip(")") for example in examples}
    assert kinds == {"kiosk", "shelf", "page", "chart", "sum"}
    thinking = sum(example.thinking is not None for example in examples)
    assert 0.2 < thinking / len(examples) < 0.7
    assert all(example.answer for example in examples)


def test_pictures_grow_with_what_the_model_takes_but_seldom_to_its_most() -> None:
    areas = [
        example.images[0].shape[0] * example.images[0].shape[1] / 256
        for example in builtin_examples(patch_size=16, max_patches=3600, count=64)
        if example.images
    ]
    assert 0 < sum(area > 1000 for area in areas) <= 4
    assert 400 < np.median(areas) < 600
