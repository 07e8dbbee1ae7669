"""Grammars over the oracle's tokenizer."""

import pytest

from phiedge.bundle import ModelFacts
from phiedge.runtime.forms.grammar import Grammars
from phiedge.runtime.tokens import Tokenizer


@pytest.fixture(scope="session")
def grammars(tokenizer: Tokenizer, facts: ModelFacts) -> Grammars:
    return Grammars(tokenizer, facts)
