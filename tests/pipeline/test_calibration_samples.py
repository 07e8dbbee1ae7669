from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from phiedge.calibration.samples import VISUAL, Kind
from phiedge.errors import InputError
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.pipeline.calibration_samples import Example, SampleBuilder, is_held_out
from phiedge.runtime.tokens import Tokenizer

PICTURE = np.zeros((96, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def reference() -> Iterator[Checkpoint]:
    with open_checkpoint("reference") as checkpoint:
        yield checkpoint


@pytest.fixture(scope="module")
def builder(reference) -> SampleBuilder:
    return SampleBuilder(reference, max_context=512)


@pytest.fixture(scope="module")
def tokenizer(reference) -> Tokenizer:
    return Tokenizer(reference.path / "tokenizer.json", reference.config.facts())


def text_of(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
    return "".join(tokenizer.text_of(int(token)) for token in tokens if token != VISUAL)


def test_a_thought_and_an_answer_stand_behind_the_prompt(builder, tokenizer) -> None:
    example = Example(told="a", prompt="How many?", images=(PICTURE,), thinking="One.", answer="1")
    (sample,) = builder.build([example])
    told = text_of(tokenizer, sample.tokens)
    assert told.endswith(f"{tokenizer.think_text}One.{tokenizer.end_think_text}1{tokenizer.eos_text}")
    thought = sample.tokens[sample.kinds == Kind.THINKING]
    assert text_of(tokenizer, thought) == f"One.{tokenizer.end_think_text}"


def test_an_answer_without_a_thought_says_so_first(builder, tokenizer) -> None:
    (sample,) = builder.build([Example(told="a", prompt="How many?", answer="1")])
    assert text_of(tokenizer, sample.tokens).endswith(f"{tokenizer.nothink_text}1{tokenizer.eos_text}")
    assert not (sample.kinds == Kind.THINKING).any()


def test_a_picture_is_where_the_prompt_has_it(builder) -> None:
    (sample,) = builder.build([Example(told="a", prompt="How many?", images=(PICTURE,))])
    (picture,) = sample.load()
    rows = np.flatnonzero(sample.kinds == Kind.VISUAL)
    assert rows[0] == picture.first_row
    assert len(rows) == len(picture.patches) == len(picture.positions)


def test_one_in_eight_is_held_out_and_each_turn_another(builder) -> None:
    samples = builder.build([Example(told=str(place), prompt="What?") for place in range(24)])
    assert [place for place, sample in enumerate(samples) if sample.held_out] == [0, 9, 18]


def test_examples_of_every_kind_judge_where_kinds_come_in_turns() -> None:
    assert {place % 8 for place in range(64) if is_held_out(place)} == set(range(8))


def test_what_does_not_fit_the_context_is_refused_by_name(builder) -> None:
    with pytest.raises(InputError, match="line 9: the prompt has .* the context has 512 positions") as refused:
        builder.build([Example(told="line 9", prompt="What? " * 400)])
    assert refused.value.remedy


def test_a_prompt_with_control_text_is_refused_by_name(builder) -> None:
    with pytest.raises(InputError, match="line 2: the prompt contains"):
        builder.build([Example(told="line 2", prompt="What <|im_end|>?")])


def test_a_picture_that_cannot_be_read_is_refused_by_name(builder, tmp_path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="line 4: .*bad.png is not a picture"):
        builder.build([Example(told="line 4", prompt="What?", images=(tmp_path / "bad.png",))])


def test_a_picture_that_is_gone_or_another_by_then_is_told_with_its_example(builder, tmp_path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    (sample,) = builder.build([Example(told="line 5", prompt="What?", images=(path,))])
    assert len(sample.load()) == 1
    Image.fromarray(PICTURE + np.uint8(9)).save(path)
    with pytest.raises(InputError, match="line 5: its pictures are not those"):
        sample.load()
    path.unlink()
    with pytest.raises(InputError, match=r"line 5: .* there is no file"):
        sample.load()


@pytest.mark.parametrize(("prompt", "pictures"), [("<image> What?", 0), ("<image> and <image>?", 1), ("<image>?", 2)])
def test_pictures_that_do_not_match_the_prompt_are_refused_by_name(builder, prompt, pictures) -> None:
    with pytest.raises(InputError, match=rf"line 3: the prompt has \d <image> placeholders?, {pictures} image"):
        builder.build([Example(told="line 3", prompt=prompt, images=(PICTURE,) * pictures)])


def test_pictures_that_do_not_fit_the_context_are_refused_by_name(builder) -> None:
    large = np.zeros((2000, 2000, 3), np.uint8)
    with pytest.raises(InputError, match="line 7: the prompt has .* visual tokens"):
        builder.build([Example(told="line 7", prompt="What?", images=(large,) * 4)])


def test_of_those_that_nobody_chose_the_ones_that_do_not_fit_are_left_out(builder) -> None:
    examples = [Example(told=str(place), prompt="What? " * (400 if place in (0, 3) else 4)) for place in range(10)]
    samples = builder.build_fitting(examples)
    assert [sample.name for sample in samples] == ["1", "2", "4", "5", "6", "7", "8", "9"]
    assert [sample.held_out for sample in samples] == [True, *[False] * 7], "one of eight that are left"
