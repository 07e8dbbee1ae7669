"""A question as the rows that Edge-LLM's runtime puts into the decoder: embeddings of tokens, and features of pictures.

Tokens and the order of rows are this runtime's own; the features come from the packed vision graph, with all pictures
of a question in one call.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.pipeline.edge_llm.vision_check import encode_packed, packed_inputs
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.embeddings import EmbeddingTable
from phiedge.runtime.goldens import GoldenQuestion
from phiedge.runtime.images import load_images
from phiedge.runtime.merge import TextRows, plan_rows
from phiedge.runtime.preprocess import PatchBudget, Patchifier, Picture, fit_picture
from phiedge.runtime.prompt import PromptBuilder
from phiedge.runtime.tokens import Tokenizer


def request_rows(
    bundle: Bundle, visual: Path, question: GoldenQuestion, said: Sequence[int]
) -> tuple[NDArray[np.float16], int]:
    """The rows of `question` and of the tokens `said` after it, [t, hidden], and how many are the question's."""
    facts = bundle.manifest.facts
    tokenizer = Tokenizer(bundle.file(bundle.manifest.tokenizer), facts)
    template = ChatTemplate.read(bundle.file(bundle.manifest.chat_template))
    budget = PatchBudget.from_facts(facts)
    pictures = [fit_picture(pixels, budget) for pixels in load_images(question.pictures)]
    prompt = PromptBuilder(template, tokenizer, facts).chat(question.prompt, images=len(pictures), think=question.think)
    grids = [picture.grid for picture in pictures]
    plan = plan_rows(prompt, grids, context=bundle.manifest.max_context, room=len(said), cut_at=None)
    features = _features(bundle, visual, pictures)
    table = EmbeddingTable(bundle)
    rows = np.empty((plan.length + len(said), facts.hidden_size), dtype=np.float16)
    for part in plan.rows:
        out = rows[part.start : part.start + part.count]
        if isinstance(part, TextRows):
            table.copy_rows(part.tokens, out)
        else:
            out[:] = features[part.picture]
    if said:
        table.copy_rows(tuple(said), rows[plan.length :])
    return rows, plan.length


def _features(bundle: Bundle, visual: Path, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
    if not pictures:
        return []
    facts = bundle.manifest.facts
    patchifier = Patchifier(facts.patch_size)
    patches = []
    for picture in pictures:
        out = np.empty((picture.grid.tokens, patchifier.row_length), dtype=np.float32)
        patchifier.write(picture, out)
        patches.append(out)
    grids = [picture.grid for picture in pictures]
    inputs = packed_inputs(patches, grids, side=facts.position_grid, patch_size=facts.patch_size, placement="centres")
    return list(np.split(encode_packed(visual, inputs), inputs["cu_seqlens"][1:-1]))
