"""Trains the reference model from nothing on generated scenes: `python -m phiedge.reference.train --out DIR`.

First the eyes alone: linear heads tell from each visual row what stands there (kind, colour, label, number, glyphs,
box). Then the whole model, on questions, with the eyes' task as a second loss; the heads are thrown away at the end.
The learning rate follows the clock, so the result depends on the machine's speed; the log says how many steps it took.
"""

import argparse
import json
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from phiedge.reference.batches import END_THINK, HEADS, IGNORE, Batch, make_batch
from phiedge.reference.blueprint import train_tokenizer, write_blueprint
from phiedge.reference.network import Shape, decode, initial_weights, is_unused, see
from phiedge.reference.questions import TASKS, Question

HELD_OUT_SEED = 10**9  # of batches; training stays far below
DENSE_SHARE = 0.15  # of the eyes' loss once questions are asked
POINT_SHARE = 10  # of the loss of where the things are that a question names
BOX_SHARE = 40  # of the boxes in that loss: sides are shares of the picture, and their errors are small numbers
STEPS_PER_ROW = 200  # of the log


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, on how much per step, and how fast; `seeing_minutes` of the time train the eyes alone."""

    minutes: float
    seeing_minutes: float
    pictures: int
    questions: int
    rate: float
    first_seed: int

    def rate_at(self, step: int, share: float) -> float:
        """Warm-up over 150 steps, level for 40 % of the time, then down in a line to 1 %."""
        return self.rate * min(1.0, (step + 1) / 150) * (1.0 if share < 0.4 else max(0.01, (1 - share) / 0.6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """`hidden` states of the packed questions [b, m, hidden], those `halfway`, and the `seen` rows [b, n, hidden]."""

    hidden: Tensor
    halfway: Tensor
    seen: Tensor


def forward(w: Mapping[str, Tensor], batch: Batch, shape: Shape) -> Activations:
    """Run a batch through eyes and decoder."""
    seen = look(w, batch, shape)
    b, n, _ = seen.shape
    table = w["model.embed_tokens.weight"]
    before = functional.embedding(torch.tensor(batch.before), table)[None].expand(b, -1, -1)
    x = torch.cat((before, seen, functional.embedding(torch.from_numpy(batch.tokens), table)), 1)
    prefix = len(batch.before) + n
    segment = torch.cat((torch.zeros(b, prefix, dtype=torch.long), torch.from_numpy(batch.segment)), 1)
    positions = torch.cat((torch.arange(prefix).expand(b, -1), prefix + torch.from_numpy(batch.offset)), 1)
    order = torch.arange(segment.shape[1])
    own = segment[:, prefix:, None] == segment[:, None, :]
    shown = (own | (order < prefix)) & (order[prefix:, None] >= order)
    mask = torch.zeros(shown.shape, dtype=x.dtype).masked_fill_(~shown, -1e9)[:, None]
    hidden, halfway = decode(w, x, positions, prefix, mask, shape)
    return Activations(hidden=hidden[:, prefix:], halfway=halfway[:, prefix:], seen=seen)


def look(w: Mapping[str, Tensor], batch: Batch, shape: Shape) -> Tensor:
    """-> the visual rows [b, n, hidden]."""
    return see(w, torch.from_numpy(batch.patches).to(w["lm_head.weight"].dtype), batch.grid, shape)


def answer_loss(w: Mapping[str, Tensor], hidden: Tensor, batch: Batch) -> Tensor:
    """The weighted cross-entropy of the trained tokens."""
    target = torch.from_numpy(batch.target)
    trained = target != IGNORE
    logits = functional.linear(hidden[trained], w["lm_head.weight"]).float()
    weight = torch.from_numpy(batch.weight)[trained]
    return (functional.cross_entropy(logits, target[trained], reduction="none") * weight).sum() / weight.sum()


def point_loss(head: Tensor, halfway: Tensor, batch: Batch) -> Tensor:
    """How far a linear head is from the box of each thing, asked halfway at the last token of the thing's name."""
    wanted = torch.from_numpy(batch.mentioned)
    held = ~wanted[..., 0].isnan()
    if not held.any():
        return torch.zeros(())
    said = functional.linear(halfway[held], head.to(halfway.dtype)).float()
    return functional.smooth_l1_loss(said, wanted[held], beta=0.05)


def dense_loss(heads: Mapping[str, Tensor], seen: Tensor, batch: Batch) -> Tensor:
    """How badly linear heads tell from each visual row what stands there, summed over the heads."""
    loss, rows = torch.zeros(()), seen.flatten(0, 1)
    for name in HEADS:
        head = heads[name]
        wanted = torch.from_numpy(batch.dense[name]).flatten(0, 1)
        held = ~wanted[:, 0].isnan() if name == "box" else wanted != IGNORE
        if not held.any():
            continue
        said, wanted = functional.linear(rows[held], head.to(rows.dtype)).float(), wanted[held]
        if name == "box":
            loss = loss + BOX_SHARE * functional.smooth_l1_loss(said, wanted, beta=0.05)
        elif name == "kind":
            loss = loss + _kind_loss(said, wanted)
        else:
            loss = loss + functional.cross_entropy(said, wanted)
    return loss


def _kind_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Nine patches in ten show nothing: what stands there and that nothing does are averaged apart."""
    each, things = functional.cross_entropy(said, wanted, reduction="none"), wanted > 0
    nothing = each[~things].mean() if (~things).any() else torch.zeros(())
    return nothing + (2 * each[things].mean() if things.any() else 0)


def score(w: Mapping[str, Tensor], batches: Sequence[Batch], tokenizer: Tokenizer, shape: Shape) -> dict[str, float]:
    """By task, how often the likeliest tokens are a right reply, given the right tokens before each."""
    right: dict[str, list[bool]] = defaultdict(list)
    with torch.no_grad():
        for batch in batches:
            said = functional.linear(forward(w, batch, shape).hidden, w["lm_head.weight"]).argmax(-1).numpy()
            for k, tasks in enumerate(batch.tasks):
                for q, task in enumerate(tasks):
                    trained = (batch.segment[k] == q + 1) & (batch.target[k] != IGNORE)
                    pair = (said[k][trained].tolist(), batch.target[k][trained].tolist())
                    right[task].append(pair[0] == pair[1] or (task == "click" and _near(tokenizer, *pair)))
    return {task: float(np.mean(right[task])) for task in TASKS if right[task]}


def _near(tokenizer: Tokenizer, said: list[int], wanted: list[int]) -> bool:
    """Whether the box that was said is as good as the one wanted, by the rule of the task."""
    answers = [tokenizer.decode(ids).rpartition(END_THINK)[2] for ids in (said, wanted)]
    x1, y1, x2, y2 = json.loads(answers[1])
    return Question(task="click", prompt="", answer=answers[1], target=(x1, y1, x2, y2)).accepts(answers[0])


class Trainer:
    """Weights, heads and optimisers of one training, and the log of how it went."""

    def __init__(self, out: Path, plan: Plan, start: Path | None) -> None:
        self._out, self._plan, self._shape = out, plan, Shape()
        if not (out / "tokenizer.json").exists():
            write_blueprint(out, self._shape, train_tokenizer(self._shape))
        self._tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        self._weights = initial_weights(self._shape, seed=0)
        if start is not None:
            self._weights |= {name: tensor.float() for name, tensor in load_file(start).items()}
        self._learned = {k: v.requires_grad_() for k, v in self._weights.items() if not is_unused(k, self._shape)}
        outputs = {**HEADS, "point": 4}
        self._heads = {n: (torch.randn(k, self._shape.hidden) * 0.02).requires_grad_() for n, k in outputs.items()}
        self._optimisers = _optimisers(self._learned, self._heads, plan.rate)
        self._log: list[dict[str, float]] = []

    def run(self) -> None:
        """Train for the planned time; the checkpoint is written with every row of the log."""
        queue = _produce_batches(self._out / "tokenizer.json", self._plan)
        began, step, share = time.monotonic(), 0, 0.0
        average = {"answer_loss": 7.0, "dense_loss": 15.0, "point_loss": 0.2}
        while share < 1:
            minutes = (time.monotonic() - began) / 60
            seeing, share = minutes < self._plan.seeing_minutes, minutes / self._plan.minutes
            for name, loss in self.learn(queue.get(), seeing, self._plan.rate_at(step, share)).items():
                average[name] += 0.02 * (loss - average[name])
            step += 1
            if step % STEPS_PER_ROW == 0 or share >= 1:
                row = {"step": step, "minutes": minutes, **average} | ({} if seeing else self._score())
                self._log.append({name: round(value, 4) for name, value in row.items()})
                print(json.dumps(self._log[-1]), flush=True)
                self._save()

    def learn(self, batch: Batch, seeing: bool, rate: float) -> dict[str, float]:
        """One step; returns its losses."""
        w = {name: tensor.to(torch.bfloat16) for name, tensor in self._learned.items()}
        if seeing:
            dense = dense_loss(self._heads, look(w, batch, self._shape), batch)
            losses, total = {"dense_loss": dense}, dense
        else:
            ran = forward(w, batch, self._shape)
            answer, dense = answer_loss(w, ran.hidden, batch), dense_loss(self._heads, ran.seen, batch)
            point = point_loss(self._heads["point"], ran.halfway, batch)
            losses = {"answer_loss": answer, "dense_loss": dense, "point_loss": point}
            total = answer + DENSE_SHARE * dense + POINT_SHARE * point
        torch.autograd.backward(total)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
                torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return {name: loss.item() for name, loss in losses.items()}

    def _score(self) -> dict[str, float]:
        w = {name: tensor.detach().to(torch.bfloat16) for name, tensor in self._learned.items()}
        held_out = [make_batch(self._tokenizer, HELD_OUT_SEED + k, 8, self._plan.questions) for k in range(12)]
        return score(w, held_out, self._tokenizer, self._shape)

    def _save(self) -> None:
        tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in self._weights.items()}
        new = self._out / "model.safetensors.new"
        save_file(tensors, new, metadata={"format": "pt"})
        new.rename(self._out / "model.safetensors")
        rows = "".join(json.dumps(row) + "\n" for row in self._log)
        (self._out / "training_log.jsonl").write_text(rows, encoding="utf-8")


def _optimisers(
    learned: Mapping[str, Tensor], heads: Mapping[str, Tensor], rate: float
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the blocks; AdamW for tables, norms, biases and heads."""
    tables = ("embed_tokens", "lm_head", "position_embedding", "patch_embedding")
    inner = {name for name, tensor in learned.items() if tensor.ndim == 2 and not any(t in name for t in tables)}
    matrices = [tensor for name, tensor in learned.items() if name in inner]
    others = [*(tensor for name, tensor in learned.items() if name not in inner), *heads.values()]
    return (
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    )


def _produce_batches(tokenizer: Path, plan: Plan) -> "multiprocessing.Queue[Batch]":
    """A short queue of batches, kept full by a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Batch] = context.Queue(maxsize=6)
    context.Process(target=_produce, args=(queue, str(tokenizer), plan), daemon=True).start()
    return queue


def _produce(queue: "multiprocessing.Queue[Batch]", tokenizer: str, plan: Plan) -> None:
    opened, seed = Tokenizer.from_file(tokenizer), plan.first_seed
    while True:
        queue.put(make_batch(opened, seed, plan.pictures, plan.questions))
        seed += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint directory to write")
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--seeing-minutes", type=float, default=18)
    parser.add_argument("--pictures", type=int, default=12, help="per step")
    parser.add_argument("--questions", type=int, default=8, help="per picture")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="weights to continue from")
    parser.add_argument("--first-seed", type=int, default=0, help="of the training batches")
    given = vars(parser.parse_args())
    out, start = given.pop("out"), given.pop("start")
    torch.set_num_threads(given.pop("threads"))
    Trainer(out, Plan(**given), start).run()


if __name__ == "__main__":
    main()
