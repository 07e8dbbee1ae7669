from collections.abc import Callable

import pytest

from phiedge.errors import ConfigError
from phiedge.exporters.section import Section


def section(**values: object) -> Section:
    return Section(values, "config.json")


def test_what_is_read_is_what_is_written() -> None:
    read = section(layers=3, eps=1e-6, theta=10, on=True, name="x", one=5, many=[1, 2], inner={"a": 1})
    assert read.integer("layers", minimum=1) == 3
    assert read.positive("eps") == 1e-6
    assert read.positive("theta") == 10.0
    assert read.flag("on", default=False) is True
    assert read.text("name") == "x"
    assert read.integers("one", minimum=0) == (5,)
    assert read.integers("many", minimum=0) == (1, 2)
    inner = read.section("inner")
    assert inner is not None
    assert inner.integer("a", minimum=0) == 1
    read.close()
    inner.close()


def test_defaults_stand_in_for_what_is_absent_or_null() -> None:
    read = section(layers=None)
    assert read.integer("layers", minimum=1, default=7) == 7
    assert read.positive("eps", default=0.5) == 0.5
    assert read.flag("on", default=True) is True
    assert read.section("inner") is None


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda s: s.integer("absent", minimum=1), "'absent' is missing"),
        (lambda s: s.integer("null", minimum=1), "'null' is null"),
        (lambda s: s.integer("flag", minimum=0), "'flag' is true, phiedge supports a whole number"),
        (lambda s: s.integer("half", minimum=0), "'half' is 0.5, phiedge supports a whole number"),
        (lambda s: s.integer("zero", minimum=1), "'zero' is 0, phiedge supports at least 1"),
        (lambda s: s.positive("zero"), "a finite number above 0"),
        (lambda s: s.positive("huge"), "a finite number above 0"),
        (lambda s: s.positive("flag"), "phiedge supports a number"),
        (lambda s: s.flag("zero", default=False), "'zero' is 0, phiedge supports true or false"),
        (lambda s: s.text("zero"), "phiedge supports a string"),
        (lambda s: s.integers("empty", minimum=0), "at least one whole number"),
        (lambda s: s.integers("mixed", minimum=0), "whole numbers of at least 0"),
        (lambda s: s.section("zero"), "phiedge supports an object"),
        (lambda s: s.fixed("zero", False), "'zero' is 0, phiedge supports false"),
        (lambda s: s.fixed("null", "silu"), "'null' is null, phiedge supports \"silu\""),
        (lambda s: s.fixed("half", 1.0, None), "phiedge supports 1.0 or null"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_was_found_and_what_is_supported(
    read: Callable[[Section], object], said: str
) -> None:
    values = section(null=None, flag=True, half=0.5, zero=0, huge=float("inf"), empty=[], mixed=[1, "2"])
    with pytest.raises(ConfigError) as caught:
        read(values)
    assert said in caught.value.message
    assert caught.value.message.startswith("config.json: ")


def test_a_fixed_key_may_be_absent_or_supported() -> None:
    read = section(act="silu", factor=1)
    read.fixed("act", "gelu", "silu")
    read.fixed("factor", 1.0)
    read.fixed("absent", None)
    read.close()


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    read = section(hidden_sise=3)
    read.integer("hidden_size", minimum=1, default=1)
    with pytest.raises(ConfigError, match=r"does not know: 'hidden_sise'; did you mean 'hidden_size'\?"):
        read.close()


def test_inert_keys_are_known_whatever_they_say() -> None:
    read = section(note={"a": [1]})
    read.inert("note")
    read.close()
