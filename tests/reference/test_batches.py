from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from phiedge.reference import MODEL_PATH
from phiedge.reference.batches import END, HEADS, IGNORE, NOTHINK, THINK, Batch, dense_targets, make_batch, names, pack
from phiedge.reference.network import Shape, initial_weights
from phiedge.reference.questions import Question
from phiedge.reference.scenes import COLOURS, KINDS, LABELS, draw_scene
from phiedge.reference.train import Plan, Trainer, forward
from phiedge.runtime.preprocess import Grid


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL_PATH / "tokenizer.json"))


@pytest.fixture(scope="module")
def batch(tokenizer: Tokenizer) -> Batch:
    return make_batch(tokenizer, seed=5, pictures=3, questions=4)


def test_the_same_seed_gives_the_same_batch(tokenizer: Tokenizer, batch: Batch) -> None:
    again = make_batch(tokenizer, seed=5, pictures=3, questions=4)
    assert np.array_equal(again.patches, batch.patches)
    assert np.array_equal(again.tokens, batch.tokens)


def test_trained_tokens_are_the_reply_and_nothing_else(tokenizer: Tokenizer) -> None:
    question = Question(task="colour", prompt="What colour is the can?", answer="red")
    packed = pack(tokenizer, np.random.default_rng(3), [question], {})
    trained = tokenizer.decode([t for t in packed.target if t != IGNORE], skip_special_tokens=False)
    assert trained == f"{NOTHINK}red{END}"


def test_a_mode_that_was_forced_is_not_trained(tokenizer: Tokenizer) -> None:
    question = Question(task="relation", prompt="Is the can left or right of the box?", answer="left", thinking="why")
    rng = np.random.default_rng(0)
    texts = {
        tokenizer.decode(
            [t for t in pack(tokenizer, rng, [question], {}).target if t != IGNORE], skip_special_tokens=False
        )
        for _ in range(40)
    }
    assert texts == {f"{THINK}why</think>left{END}", f"left{END}"}


def test_a_question_in_a_pack_is_computed_as_if_it_were_alone(tokenizer: Tokenizer, batch: Batch) -> None:
    shape = Shape()
    weights = initial_weights(shape, seed=2)
    packed = forward(weights, batch, shape).hidden
    own = batch.segment[0] == 2
    alone = Batch(
        grid=batch.grid,
        patches=batch.patches[:1],
        before=batch.before,
        tokens=batch.tokens[:1, own],
        segment=np.ones_like(batch.segment[:1, own]),
        offset=batch.offset[:1, own],
        target=batch.target[:1, own],
        weight=batch.weight[:1, own],
        mentioned=batch.mentioned[:1, own],
        dense={},
        tasks=(),
    )
    single = forward(weights, alone, shape).hidden
    assert torch.allclose(packed[0][torch.from_numpy(own)], single[0], atol=1e-4)


def test_the_last_token_of_a_things_name_is_asked_where_it_is(tokenizer: Tokenizer) -> None:
    box = (0.1, 0.2, 0.3, 0.4)
    question = Question(task="digit", prompt="What is the price of the red can?", answer="4")
    packed = pack(tokenizer, np.random.default_rng(3), [question], {"red can": box, "red box": (0.0, 0.0, 1.0, 1.0)})
    asked = [k for k, place in enumerate(packed.mentioned) if place == box]
    assert [tokenizer.decode(packed.tokens[: k + 1]) for k in asked] == ["\nWhat is the price of the red can"]
    assert sum(not np.isnan(place[0]) for place in packed.mentioned) == 1


def test_a_name_that_two_things_share_is_nobodys() -> None:
    for seed in range(40):
        scene = draw_scene(seed, place="kiosk")
        colours = [item.colour for item in scene.of_kind("button")]
        assert {f"{c} button" for c in colours if colours.count(c) == 1} == {n for n in names(scene) if "button" in n}


def test_dense_targets_name_what_stands_in_the_middle_of_each_button() -> None:
    scene = draw_scene(1, size=(320, 192), place="kiosk")
    grid = Grid(rows=12, columns=20)
    targets = dense_targets(scene, grid)
    for item in scene.of_kind("button"):
        place = int(item.centre[1] // 16) * grid.columns + int(item.centre[0] // 16)
        assert KINDS[targets["kind"][place] - 1] == "button"
        assert list(COLOURS)[targets["colour"][place]] == item.colour
        assert LABELS[targets["label"][place]] == item.label
        assert np.allclose(targets["box"][place] * [320, 192, 320, 192], item.box, atol=1e-3)
    assert set(targets) == set(HEADS)


def test_steps_on_one_batch_lower_both_losses(tmp_path: Path, tokenizer: Tokenizer, batch: Batch) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    plan = Plan(minutes=1, seeing_minutes=0, pictures=3, questions=4, rate=1e-3, first_seed=0)
    trainer = Trainer(tmp_path, plan, start=None)
    losses = [trainer.learn(batch, seeing=False, rate=1e-3) for _ in range(6)]
    assert losses[-1]["answer_loss"] < losses[0]["answer_loss"]
    assert losses[-1]["dense_loss"] < losses[0]["dense_loss"]
