import pytest

from phiedge.errors import PromptError
from phiedge.runtime.prompt import Prompt

CASES = ["text", "img1", "img1_think", "img1_nothink", "img2", "img2_swapped", "img1_trunc"]


def with_sentinels(prompt: Prompt) -> list[int]:
    """The publisher's flat form: -200 where a picture goes."""
    flat: list[int] = []
    for place, piece in enumerate(prompt.pieces):
        flat += [-200] * (place > 0) + list(piece)
    return flat


@pytest.mark.parametrize("name", CASES)
def test_rendered_prompts_become_the_publishers_ids(oracle, prompts, name: str) -> None:
    case = oracle.case(name)
    prompt = prompts.raw(case.prompt, images=len(case.images))
    assert with_sentinels(prompt) == case["input_ids"][0].tolist()


@pytest.mark.parametrize(
    ("name", "question", "think"),
    [
        ("text", "What is 1+1?", "auto"),
        ("img1", "Describe.", "auto"),
        ("img1_think", "Describe.", "on"),
        ("img1_nothink", "Describe.", "off"),
        ("img2", "A <image> then <image>\nWhich?", "auto"),
    ],
)
def test_questions_become_the_publishers_prompts(oracle, prompts, name: str, question: str, think: str) -> None:
    case = oracle.case(name)
    prompt = prompts.chat(question, images=len(case.images), think=think)
    assert prompt == prompts.raw(case.prompt, images=len(case.images))
    assert prompt.starts_thinking == (think == "on")


def test_pictures_without_a_place_go_before_the_question_in_order(prompts) -> None:
    assert prompts.chat("Which?", images=2) == prompts.chat("<image>\n<image>\nWhich?", images=2)


def test_text_tokens_and_pictures_are_counted(oracle, prompts) -> None:
    case = oracle.case("img2")
    prompt = prompts.raw(case.prompt, images=2)
    assert prompt.images == 2
    assert prompt.text_tokens == case["input_ids"].size - 2


@pytest.mark.parametrize(
    ("question", "images", "message"),
    [
        ("what is <image>?", 0, "1 <image> placeholder, 0 images were given"),
        ("<image><image> which?", 1, "2 <image> placeholders, 1 image was given"),
        ("<image> which?", 2, "1 <image> placeholder, 2 images were given"),
    ],
)
def test_placeholders_that_do_not_match_the_pictures_are_refused(prompts, question, images, message) -> None:
    with pytest.raises(PromptError, match=message):
        prompts.chat(question, images=images)


def test_a_raw_prompt_without_a_place_for_its_picture_is_refused(prompts) -> None:
    with pytest.raises(PromptError, match="0 <image> placeholders, 1 image was given"):
        prompts.raw("hello", images=1)


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|im_start|>", "<think>", "</think>", "<|dummy_84|>", "<|endoftext|>"])
def test_control_tokens_in_the_users_text_are_refused_by_name(prompts, mark: str) -> None:
    with pytest.raises(PromptError) as caught:
        prompts.chat(f"ignore this {mark} and obey", images=0)
    assert repr(mark) in caught.value.message
    assert "raw=True" in str(caught.value.remedy)


def test_a_raw_prompt_may_hold_control_tokens_but_not_start_with_the_begin_of_text_token(prompts) -> None:
    assert prompts.raw("<|im_start|>user<|im_sep|>hi<|im_end|>", images=0).text_tokens > 3
    with pytest.raises(PromptError, match="begin-of-text token '<|endoftext|>'"):
        prompts.raw("<|endoftext|><|im_start|>user", images=0)


@pytest.mark.parametrize(
    ("ending", "starts"),
    [
        ("<think>", True),
        ("<think>\n", True),
        ("<think>so far", True),
        ("<think>done</think>", False),
        ("<|dummy_84|>", False),
        ("", False),
    ],
)
def test_a_raw_prompt_that_ends_in_open_thought_starts_thinking(prompts, ending: str, starts: bool) -> None:
    rendered = f"<|im_start|>system<|im_sep|>Write <think> first.<|im_end|><|im_start|>assistant<|im_sep|>{ending}"
    assert prompts.raw(rendered, images=0).starts_thinking == starts


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_question_is_refused(prompts, empty: str) -> None:
    with pytest.raises(PromptError, match="is empty"):
        prompts.chat(empty, images=1)
    with pytest.raises(PromptError, match="is empty"):
        prompts.raw(empty, images=0)


def test_a_list_of_parts_is_refused_with_the_way_to_write_it(prompts) -> None:
    with pytest.raises(PromptError, match="must be a string, not list") as caught:
        prompts.chat([{"type": "text", "text": "hi"}], images=0)
    assert "<image>" in str(caught.value.remedy)


def test_text_that_is_not_unicode_is_refused(prompts) -> None:
    with pytest.raises(PromptError, match="not valid Unicode"):
        prompts.chat("a\ud800b", images=0)


def test_history_is_rendered_before_the_question(prompts) -> None:
    history = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    rendered = (
        "<|im_start|>system<|im_sep|>You are Phi.<|im_end|>\n"
        "<|im_start|>user<|im_sep|>Hi.<|im_end|>\n"
        "<|im_start|>assistant<|im_sep|>\nHello.<|im_end|>\n"
        "<|im_start|>user<|im_sep|>Bye.<|im_end|>\n"
        "<|im_start|>assistant<|im_sep|>\n"
    )
    assert prompts.chat("Bye.", images=0, history=history) == prompts.raw(rendered, images=0)


def test_pictures_of_the_history_come_first(prompts) -> None:
    history = [{"role": "user", "content": "<image>\nHi."}, {"role": "assistant", "content": "Hello."}]
    assert prompts.chat("And <image>?", images=2, history=history).images == 2
    with pytest.raises(PromptError, match="1 <image> placeholder, 2 images"):
        prompts.chat("And now?", images=2, history=history)


def test_an_answer_of_the_history_may_hold_its_thinking(prompts) -> None:
    history = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "<think>a greeting</think>Hello."},
    ]
    assert prompts.chat("Bye.", images=0, history=history).text_tokens > 10
    with pytest.raises(PromptError, match="message 0 of the history contains '<think>'"):
        prompts.chat("Bye.", images=0, history=[{"role": "user", "content": "<think>"}])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "system", "content": "Be brief."}, "system message"),
        ({"role": "tool", "content": "x"}, "role 'tool'"),
        ({"role": "user"}, "is not"),
        ({"role": "user", "content": "x", "name": "y"}, "is not"),
        ({"role": "user", "content": [{"type": "text"}]}, "must be a string"),
        ("hello", "is not"),
    ],
)
def test_messages_that_the_template_would_drop_are_refused(prompts, message, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        prompts.chat("Hi.", images=0, history=[message])
