"""The reference model's bundle for Orin, and what it answers to one prompt."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.runtime.session import Session
from phiedge.runtime.tokens import Tokenizer

PROMPT = "<|im_start|>user<|im_sep|>What does the first button say?<|im_end|><|im_start|>assistant<|im_sep|>"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt's tokens, and the next token's logits as the bundle computes them in float32."""

    tokens: list[int]
    logits: np.ndarray


@pytest.fixture(scope="session")
def gpu_bundle(exported_bundle: Path) -> Bundle:
    return Bundle.open(exported_bundle)


@pytest.fixture(scope="session")
def asked(gpu_bundle: Bundle) -> Asked:
    tokenizer = Tokenizer(gpu_bundle.file("tokenizer.json"), gpu_bundle.manifest.facts)
    with Session.open(gpu_bundle, max_context=256) as session:
        logits = session.logits(PROMPT, raw=True)
    return Asked(tokens=tokenizer.encode(PROMPT), logits=logits)
