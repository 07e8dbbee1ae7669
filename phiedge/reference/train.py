"""Trains the reference model from nothing on generated scenes: `python -m phiedge.reference.train --out DIR --minutes 75`.

Each step draws pictures of one size and asks several questions about each: the picture's rows are computed once, every question sees the
picture and itself only, so that it is trained exactly as it will be asked. Beside the answers, a second loss asks each visual row what
stands at its place (kind, colour, label, number, box); its heads are thrown away when training ends. The learning rate falls with the clock,
so the result depends on the machine's speed; the log says how many steps it took.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from phiedge.reference.blueprint import MAX_NUM_PATCHES, MIN_NUM_PATCHES, encode_all, train_tokenizer, write_blueprint
from phiedge.reference.network import TOWER, Shape, decode, initial_weights, is_unused, see
from phiedge.reference.questions import TASKS, Question, ask
from phiedge.reference.scenes import COLOURS, KINDS, LABELS, SHAPES, Scene, draw_scene, random_size
from phiedge.runtime.preprocess import patchify

IGNORE = -100
GLYPHS = "".join(sorted({*"0123456789", *"".join(LABELS)}))
HEADS = {"kind": len(KINDS) + 1, "colour": len(COLOURS), "label": len(LABELS), "tens": 11, "units": 10, "box": 4}
HEADS |= {"left_glyph": len(GLYPHS), "right_glyph": len(GLYPHS)}
THINK, END_THINK, NOTHINK, END = "<think>", "</think>", "<|dummy_84|>", "<|im_end|>"
HELD_OUT = 10**9  # seeds from here on are never trained on


@dataclass(slots=True, kw_only=True)
class Batch:
    """Arrays for one step: p text tokens, n visual rows, then the packed questions up to length t."""

    grid: tuple[int, int]
    patches: np.ndarray  # [b, n, 768] float32
    before: list[int]  # token ids before the picture
    tokens: np.ndarray  # [b, m] ids of the packed questions and answers
    segment: np.ndarray  # [b, m] question number from 1, 0 for padding
    offset: np.ndarray  # [b, m] place inside the question
    target: np.ndarray  # [b, m] the next token where it is trained, else IGNORE
    weight: np.ndarray  # [b, m]
    dense: dict[str, np.ndarray]  # per visual row: what stands there
    tasks: list[list[str]]  # task of each question


def make_batch(tokenizer: Tokenizer, seed: int, size: int, per_picture: int) -> Batch:
    """`size` scenes of one picture size with up to `per_picture` questions each."""
    rng = np.random.default_rng([1, seed])
    shape = random_size(rng)
    scenes = [draw_scene(seed * 1000 + k, size=shape) for k in range(size)]
    seen = [
        patchify(np.asarray(scene.picture), min_patches=MIN_NUM_PATCHES, max_patches=MAX_NUM_PATCHES)
        for scene in scenes
    ]
    rows, columns = seen[0].grid
    head = "<|im_start|>system<|im_sep|>" + _system_text(tokenizer) + END + "\n<|im_start|>user<|im_sep|>"
    packed = [_pack(tokenizer, rng, ask(scene, rng, per_picture)) for scene in scenes]
    length = max(len(p[0]) for p in packed)
    length = math.ceil(length / 16) * 16

    def padded(column: int, fill: float, dtype: type) -> np.ndarray:
        out = np.full((size, length), fill, dtype)
        for k, p in enumerate(packed):
            out[k, : len(p[column])] = p[column]
        return out

    dense = [_dense_targets(scene, rows, columns) for scene in scenes]
    return Batch(
        grid=(rows, columns),
        patches=np.stack([s.patches for s in seen]),
        before=tokenizer.encode(head, add_special_tokens=False).ids,
        tokens=padded(0, 0, np.int64),
        segment=padded(1, 0, np.int64),
        offset=padded(2, 0, np.int64),
        target=padded(3, IGNORE, np.int64),
        weight=padded(4, 0, np.float32),
        dense={name: np.stack([d[name] for d in dense]) for name in HEADS},
        tasks=[p[5] for p in packed],
    )


def _system_text(tokenizer: Tokenizer) -> str:
    from phiedge.reference.blueprint import CHAT_TEMPLATE

    return CHAT_TEMPLATE.split(END)[0].removeprefix("<|im_start|>system<|im_sep|>")


def _pack(tokenizer: Tokenizer, rng: np.random.Generator, questions: list[Question]):  # type: ignore[no-untyped-def]
    """Questions one behind the other: ids, segment, offset, next-token target, weight, tasks."""
    texts = [f"\n{q.prompt}{END}\n<|im_start|>assistant<|im_sep|>\n" for q in questions]
    replies, forced = zip(*(_reply(rng, q) for q in questions), strict=True)
    asked, answered = encode_all(tokenizer, texts), encode_all(tokenizer, replies)
    ids: list[int] = []
    segment: list[int] = []
    offset: list[int] = []
    target: list[int] = []
    weight: list[float] = []
    for k, (a, r) in enumerate(zip(asked, answered, strict=True)):
        whole = a + r
        trained = [IGNORE] * len(a) + r
        if forced[k]:
            trained[len(a)] = IGNORE
        share = len(r) ** -0.5
        ids += whole
        segment += [k + 1] * len(whole)
        offset += range(len(whole))
        target += [*trained[1:], IGNORE]
        weight += [share] * len(whole)
    return ids, segment, offset, target, weight, [q.task for q in questions]


def _reply(rng: np.random.Generator, question: Question) -> tuple[str, bool]:
    """The assistant's turn, and whether its mode token was forced (then it is not trained): relations think by themselves, the rest not."""
    natural = question.task == "relation"
    chance = {"relation": 0.7, "count": 0.2}.get(question.task, 0.04)
    think = rng.random() < chance
    thought = question.thinking or "Look."
    text = f"{THINK}{thought}{END_THINK}{question.answer}{END}" if think else f"{NOTHINK}{question.answer}{END}"
    return text, think != natural


def _dense_targets(scene: Scene, rows: int, columns: int) -> dict[str, np.ndarray]:
    """What stands at each of rows x columns patches; box sides relative to the patch's own place."""
    out: dict[str, np.ndarray] = {name: np.full(rows * columns, IGNORE, np.int64) for name in HEADS if name != "box"}
    out["kind"][:] = 0
    out["box"] = np.full((rows * columns, 4), np.nan, np.float32)
    width, height = scene.picture.size
    for item in sorted(scene.items, key=lambda i: i.kind not in SHAPES):
        box = np.array(item.box, np.float32) / np.array([width, height, width, height], np.float32)
        x1, y1, x2, y2 = box * np.array([columns, rows, columns, rows], np.float32)
        for y in range(max(0, math.floor(y1 + 0.6)), min(rows, max(math.floor(y1 + 0.6) + 1, math.ceil(y2 - 0.6)))):
            for x in range(
                max(0, math.floor(x1 + 0.6)), min(columns, max(math.floor(x1 + 0.6) + 1, math.ceil(x2 - 0.6)))
            ):
                place = y * columns + x
                out["kind"][place] = KINDS.index(item.kind) + 1
                out["colour"][place] = list(COLOURS).index(item.colour) if item.colour else IGNORE
                out["label"][place] = LABELS.index(item.label) if item.label else IGNORE
                out["tens"][place] = IGNORE if item.number is None else (item.number // 10 if item.number > 9 else 10)
                out["units"][place] = IGNORE if item.number is None else item.number % 10
                out["box"][place] = box
        for glyph in item.glyphs:
            x, y = glyph.x / width * columns, glyph.y / height * rows
            if 0 <= x < columns and 0 <= y < rows:
                half = "left_glyph" if x % 1 < 0.5 else "right_glyph"
                out[half][int(y) * columns + int(x)] = GLYPHS.index(glyph.character)
    return out


def forward(w: dict[str, Tensor], batch: Batch, shape: Shape) -> tuple[Tensor, Tensor]:
    """-> hidden states of the packed questions [b, m, hidden] and visual rows [b, n, hidden]."""
    seen = see(w, torch.from_numpy(batch.patches).to(w["lm_head.weight"].dtype), batch.grid, shape)
    b, n, _ = seen.shape
    table = w["model.embed_tokens.weight"]
    before = F.embedding(torch.tensor(batch.before), table)[None].expand(b, -1, -1)
    x = torch.cat((before, seen, F.embedding(torch.from_numpy(batch.tokens), table)), 1)
    prefix = len(batch.before) + n
    segment = torch.cat((torch.zeros(b, prefix, dtype=torch.long), torch.from_numpy(batch.segment)), 1)
    positions = torch.cat((torch.arange(prefix).expand(b, -1), prefix + torch.from_numpy(batch.offset)), 1)
    order = torch.arange(segment.shape[1])
    own = segment[:, prefix:, None] == segment[:, None, :]
    shown = (own | (order < prefix)) & (order[prefix:, None] >= order)
    mask = torch.zeros(shown.shape, dtype=x.dtype).masked_fill_(~shown, -1e9)[:, None]
    return decode(w, x, positions, prefix, mask, shape)[:, prefix:], seen


def answer_loss(w: dict[str, Tensor], batch: Batch, shape: Shape) -> tuple[Tensor, Tensor]:
    """-> cross-entropy of the trained tokens, a question's weight shared by its tokens; and the visual rows [b, n, hidden]."""
    hidden, seen = forward(w, batch, shape)
    target = torch.from_numpy(batch.target)
    trained = target != IGNORE
    logits = F.linear(hidden[trained], w["lm_head.weight"]).float()
    weight = torch.from_numpy(batch.weight)[trained]
    return (F.cross_entropy(logits, target[trained], reduction="none") * weight).sum() / weight.sum(), seen


def dense_loss(heads: dict[str, Tensor], seen: Tensor, batch: Batch) -> Tensor:
    """How badly linear heads tell from each visual row what stands there."""
    loss, rows = torch.zeros(()), seen.flatten(0, 1)
    for name in HEADS:
        wanted = torch.from_numpy(batch.dense[name]).flatten(0, 1)
        held = ~wanted[:, 0].isnan() if name == "box" else wanted != IGNORE
        if not held.any():
            continue
        out = F.linear(rows[held], heads[name].to(rows.dtype)).float()
        loss = loss + (
            10 * F.smooth_l1_loss(out, wanted[held], beta=0.05) if name == "box" else F.cross_entropy(out, wanted[held])
        )
    return loss


def score(w: dict[str, Tensor], batches: list[Batch], tokenizer: Tokenizer, shape: Shape) -> dict[str, float]:
    """Share of questions whose every trained token is the most likely one (what greedy decoding would then answer), by task."""
    right: dict[str, list[bool]] = defaultdict(list)
    with torch.no_grad():
        for batch in batches:
            hidden, _ = forward(w, batch, shape)
            best = F.linear(hidden, w["lm_head.weight"]).argmax(-1)
            target = torch.from_numpy(batch.target)
            hit = (best == target) | (target == IGNORE)
            for k, tasks in enumerate(batch.tasks):
                for q, task in enumerate(tasks):
                    place = torch.from_numpy(batch.segment[k]) == q + 1
                    if task == "click":
                        right[task].append(
                            _near(
                                tokenizer,
                                best[k][place & (target[k] != IGNORE)],
                                target[k][place & (target[k] != IGNORE)],
                            )
                        )
                    else:
                        right[task].append(bool(hit[k][place].all()))
    return {task: float(np.mean(right[task])) for task in TASKS if right[task]}


def _near(tokenizer: Tokenizer, said: Tensor, wanted: Tensor) -> bool:
    texts = [tokenizer.decode(ids.tolist()).split(END_THINK)[-1] for ids in (said, wanted)]
    try:
        a, b = (json.loads(text) for text in texts)
    except ValueError:
        return False
    if not (isinstance(a, list) and len(a) == 4):
        return False
    return bool(b[0] <= (a[0] + a[2]) / 2 <= b[2] and b[1] <= (a[1] + a[3]) / 2 <= b[3])


def _produce(queue: multiprocessing.Queue[Batch], path: str, seed: int, size: int, per_picture: int) -> None:
    """Fill the queue with batches of successive seeds, in a process of its own, until it is stopped."""
    tokenizer = Tokenizer.from_file(path)
    while True:
        queue.put(make_batch(tokenizer, seed, size, per_picture))
        seed += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and on how much per step; the first `seeing_minutes` train the eyes alone, on the dense loss."""

    minutes: float
    seeing_minutes: float
    pictures: int
    questions: int
    rate: float

    def share(self, elapsed_s: float) -> float:
        return elapsed_s / (60 * self.minutes)

    def rate_at(self, step: int, share: float) -> float:
        """Warm-up over 150 steps, level for 40 % of the time, then down in a line to 1 %."""
        return self.rate * min(1.0, (step + 1) / 150) * (1.0 if share < 0.4 else max(0.01, (1 - share) / 0.6))


def train(out: Path, plan: Plan, start: Path | None) -> None:
    """Train by the plan and write the checkpoint directory, now and then and at the end."""
    shape = Shape()
    if not (out / "tokenizer.json").exists():
        write_blueprint(out, shape, train_tokenizer(shape))
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    weights = initial_weights(shape, seed=0)
    if start is not None:
        weights |= {k: v.float() for k, v in load_file(start).items()}
    heads = {name: (torch.randn(k, shape.hidden) * 0.02).requires_grad_() for name, k in HEADS.items()}
    learned = {k: v.requires_grad_() for k, v in weights.items() if not is_unused(k, shape)}
    optimisers = _optimisers(learned, heads, plan.rate)
    queue = _batches(out / "tokenizer.json", plan, first_seed=0 if start is None else 500_000)
    held_out = [make_batch(tokenizer, HELD_OUT + k, 8, plan.questions) for k in range(12)]
    began, step = time.monotonic(), 0
    average, log = {"answer": 7.0, "dense": 15.0}, []
    while (share := plan.share(time.monotonic() - began)) < 1:
        batch = queue.get()
        seeing = time.monotonic() - began < 60 * plan.seeing_minutes
        half = {k: v.to(torch.bfloat16) for k, v in learned.items()}
        if seeing:
            dense = dense_loss(heads, see(half, torch.from_numpy(batch.patches).bfloat16(), batch.grid, shape), batch)
            dense.backward()
        else:
            answer, seen = answer_loss(half, batch, shape)
            dense = dense_loss(heads, seen, batch)
            (answer + 0.1 * dense).backward()
            average["answer"] += 0.02 * (answer.item() - average["answer"])
        average["dense"] += 0.02 * (dense.item() - average["dense"])
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = plan.rate_at(step, share)
                torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 400 == 0 or plan.share(time.monotonic() - began) >= 1:
            row = {"step": step, "minutes": round((time.monotonic() - began) / 60, 2)}
            row |= {f"{name}_loss": round(value, 4) for name, value in average.items()}
            if not seeing:
                final = {k: v.detach().to(torch.bfloat16) for k, v in learned.items()}
                row |= {k: round(v, 4) for k, v in score(final, held_out, tokenizer, shape).items()}
            log.append(row)
            print(json.dumps(row), flush=True)
            _save(out, weights, log)


def _optimisers(learned: dict[str, Tensor], heads: dict[str, Tensor], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for tables, norms, biases and the dense heads."""
    table = ("embed_tokens", "lm_head", "position_embedding", "patch_embedding")
    matrices = [v for k, v in learned.items() if v.ndim == 2 and not any(t in k for t in table)]
    others = [v for k, v in learned.items() if v.ndim != 2 or any(t in k for t in table)] + list(heads.values())
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _batches(tokenizer: Path, plan: Plan, first_seed: int) -> multiprocessing.Queue[Batch]:
    """A short queue of batches, kept full by a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Batch] = context.Queue(maxsize=6)
    work = (queue, str(tokenizer), first_seed, plan.pictures, plan.questions)
    context.Process(target=_produce, args=work, daemon=True).start()
    return queue


def _save(out: Path, weights: dict[str, Tensor], log: list[dict[str, float]]) -> None:
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in weights.items()}
    save_file(tensors, out / "model.safetensors.new", metadata={"format": "pt"})
    (out / "model.safetensors.new").rename(out / "model.safetensors")
    (out / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--seeing-minutes", type=float, default=12)
    parser.add_argument("--pictures", type=int, default=12, help="pictures per step")
    parser.add_argument("--questions", type=int, default=8, help="questions per picture")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="weights to continue from")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    plan = Plan(
        minutes=given.minutes,
        seeing_minutes=given.seeing_minutes,
        pictures=given.pictures,
        questions=given.questions,
        rate=given.rate,
    )
    train(given.out, plan, given.start)


if __name__ == "__main__":
    main()
