"""The oracle: inputs and outputs of the publisher's own code on a tiny random checkpoint."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phiedge.bundle import Bundle, ModelFacts
from phiedge.exporters.config import ModelConfig
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.prompt import PromptBuilder
from phiedge.runtime.tokens import Tokenizer

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"


@dataclass(frozen=True)
class OracleCase:
    """One case: its prompt, its pictures and what the publisher's code made of them."""

    name: str
    arrays: Any
    facts: dict[str, Any]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[f"{self.name}/{key}"]

    @property
    def prompt(self) -> str:
        return self.facts["prompt"]

    @property
    def images(self) -> list[np.ndarray]:
        return [self[f"image_{place}"] for place in range(len(self.facts["images"]))]

    @property
    def greedy(self) -> list[int]:
        return self.facts["greedy"]


@dataclass(frozen=True)
class Oracle:
    arrays: Any
    meta: dict[str, Any]

    def case(self, name: str) -> OracleCase:
        return OracleCase(name=name, arrays=self.arrays, facts=self.meta["cases"][name])


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    meta = json.loads((ORACLE / "oracle_meta.json").read_text())
    with np.load(ORACLE / "oracle.npz") as arrays:
        yield Oracle(arrays=arrays, meta=meta)


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    return ModelConfig.from_dir(ORACLE).facts()


@pytest.fixture(scope="session")
def tokenizer(facts: ModelFacts) -> Tokenizer:
    return Tokenizer(ORACLE / "tokenizer.json", facts)


@pytest.fixture(scope="session")
def prompts(facts: ModelFacts, tokenizer: Tokenizer) -> PromptBuilder:
    template = ChatTemplate((ORACLE / "chat_template.jinja").read_text())
    return PromptBuilder(template, tokenizer, facts)


@pytest.fixture
def altered_bundle(oracle_bundle: Bundle, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the oracle's bundle whose manifest states other facts, and gives its path."""

    def alter(**facts: object) -> Path:
        path = tmp_path / "altered"
        shutil.copytree(oracle_bundle.path, path)
        manifest = oracle_bundle.manifest
        altered = replace(manifest, facts=replace(manifest.facts, **facts))
        (path / "manifest.json").write_bytes(altered.to_bytes())
        return path

    return alter
