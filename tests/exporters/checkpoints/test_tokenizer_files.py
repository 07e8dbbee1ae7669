"""Tokenizer and template beside the weights: one token for a picture, and prompts as before."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.directory import CheckpointDirectory
from phiedge.exporters.checkpoints.tokenizer_files import text_files, without_marks, write_text_files
from phiedge.runtime.chat_template import ChatTemplate

MARKED = """{% for message in messages %}
  {% if message['role'] == 'assistant' %}
a{% generation %}
{{ message['content'] + '<|im_end|>' }}
    {%- endgeneration -%}
  b
  {% generation %}{{ message['content'] }}{% endgeneration %}
{%+ generation %}
x
 {% endgeneration +%}
 y
{% endif %}
{% endfor %}
"""


@pytest.fixture
def written(gpu_bundle: Bundle, tmp_path: Path) -> Path:
    with CheckpointDirectory(tmp_path / "text") as directory:
        write_text_files(text_files(gpu_bundle, placeholder=True), gpu_bundle.manifest.facts, directory)
        return directory.commit({})


def test_a_picture_is_one_token_and_the_rest_are_as_before(gpu_bundle: Bundle, written: Path) -> None:
    before = Tokenizer.from_file(str(gpu_bundle.file("tokenizer.json")))
    after = Tokenizer.from_file(str(written / "tokenizer.json"))
    number = after.token_to_id("<image>")
    assert number == before.token_to_id("<|dummy_0|>")
    first, second = "<|im_start|>user<|im_sep|>Look: ", "\nWhat is this?<|im_end|>"
    expected = [*before.encode(first).ids, number, *before.encode(second).ids]
    assert after.encode(f"{first}<image>{second}").ids == expected
    assert text_files(gpu_bundle, placeholder=True).image_token_id == number


def test_transformers_reads_tokenizer_and_template(gpu_bundle: Bundle, written: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(written)
    messages = [{"role": "user", "content": "What is this?"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == ChatTemplate.read(gpu_bundle.file("chat_template.jinja")).render(messages)
    facts = gpu_bundle.manifest.facts
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (facts.bos_token_id, facts.eos_token_ids[0])


def test_generation_defaults_are_the_publishers(written: Path) -> None:
    assert json.loads((written / "generation_config.json").read_text()) == {
        "bos_token_id": 760,
        "do_sample": True,
        "eos_token_id": [762],
        "pad_token_id": 765,
        "temperature": 0.8,
        "top_p": 0.95,
    }


@pytest.mark.parametrize("template", [MARKED, "{% generation %}\n{{ 1 }} {% endgeneration %}\n\nend"])
def test_a_template_without_marks_for_training_renders_the_same(template: str) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": " a\n"}]
    stripped = without_marks(template)
    assert "generation" not in stripped
    assert ChatTemplate(stripped).render(messages) == ChatTemplate(template).render(messages)


def test_without_a_placeholder_tokenizer_and_template_are_the_publishers(gpu_bundle: Bundle) -> None:
    files = text_files(gpu_bundle, placeholder=False)
    assert files.tokenizer == json.loads(gpu_bundle.file("tokenizer.json").read_text())
    assert "{% generation %}" in files.template
    assert files.image_token_id is None


def test_a_tokenizer_without_an_unused_token_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(FormatError, match="no unused token"):
        text_files(tiny_bundle, placeholder=True)
