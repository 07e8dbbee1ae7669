from pathlib import Path

import jinja2
import pytest

from phiedge.errors import BundleError, PromptError
from phiedge.runtime.chat_template import ChatTemplate

HELLO = [{"role": "user", "content": "hello"}]


def test_a_generation_block_is_its_content_and_block_lines_leave_no_trace() -> None:
    source = "a\n  {% for m in messages %}\n[{% generation %}{{ m['content'] }}{% endgeneration %}]\n{% endfor %}z"
    assert ChatTemplate(source).render(HELLO) == "a\n[hello]\nz"


def test_the_template_is_asked_for_the_start_of_an_answer_and_told_the_marks() -> None:
    template = ChatTemplate("{{ bos_token }}{% if add_generation_prompt %}go{% endif %}")
    assert template.render(HELLO, bos_token="<s>") == "<s>go"


def test_a_name_that_nobody_defined_is_empty_as_the_publishers_library_has_it() -> None:
    assert ChatTemplate("{% if tools %}tools{% endif %}.").render(HELLO) == "."


def test_break_and_continue_work() -> None:
    skip, stop = "{% if i == 1 %}{% continue %}{% endif %}", "{% if i == 4 %}{% break %}{% endif %}"
    source = f"{{% for i in range(9) %}}{skip}{stop}{{{{ i }}}}{{% endfor %}}"
    assert ChatTemplate(source).render(HELLO) == "023"


def test_the_length_and_place_of_a_loop_are_known_to_it() -> None:
    source = "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% endfor %}"
    assert ChatTemplate(source).render(HELLO) == "1/1True"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ ''.__class__.mro() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages[0].update(role='x') }}", "unsafe"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "loops more than 100000"),
        ("{% for i in range(1000000) %}{% endfor %}", "too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ 'a' * 5000000 }}", "more than 4000000 characters"),
        ("{{ raise_exception('only once') }}", "only once"),
        ("{{ messages[0]['content'] + 1 }}", "concatenate"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ open('/etc/passwd') }}", "undefined"),
        ("{% include 'other' %}", "loader"),
    ],
)
def test_what_a_template_must_not_do_ends_in_a_prompt_error(source: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        ChatTemplate(source).render(HELLO)


def test_the_count_of_loop_turns_starts_again_with_every_prompt() -> None:
    template = ChatTemplate("{% for i in range(60000) %}{% endfor %}ok")
    assert [template.render(HELLO) for _ in range(3)] == ["ok"] * 3


def test_rendering_does_not_change_the_messages() -> None:
    messages = [{"role": "user", "content": "hello"}]
    ChatTemplate("{% set messages = [] %}x").render(messages)
    assert messages == HELLO


@pytest.mark.parametrize("source", ["{% for", "{% nonsense %}", "{{ x | no_such_filter }}"])
def test_a_template_that_does_not_compile_is_a_fault_of_the_bundle(source: str) -> None:
    with pytest.raises(BundleError, match="does not compile") as caught:
        ChatTemplate(source)
    assert isinstance(caught.value.__cause__, jinja2.TemplateError)


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe{{ messages }}")
    with pytest.raises(BundleError, match="chat_template.jinja is not UTF-8 text"):
        ChatTemplate.read(tmp_path / "chat_template.jinja")
