"""What a second question about the same picture costs, and whether its answer stays the same.

    python -m benchmarks.reuse --bundle BUNDLE [--scenes 40] [--backend NAME] [--keep]

For every scene, questions are asked one after the other, in turns by a session that keeps what they have in common and
by one that keeps nothing. The times are those until the first token. The limit beside them is what the rows that are
left to compute take in a plain session: a prompt of that many rows.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

import phiedge
from benchmarks.record import add_options, publish, summary
from phiedge.reference.questions import ask
from phiedge.reference.scenes import draw_scene

_FIRST_SCENE = 3 * 10**15  # far from what was trained on
_QUESTIONS = 4


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Ask every question of both sessions."""
    opened = {"threads": options.threads, "backend": options.backend}
    first_ms: dict[str, list[float]] = {"first": [], "second": [], "second_fresh": []}
    parts_ms: dict[str, list[float]] = {"preprocess": [], "vision": [], "prefill": []}
    same, reused, left = [], [], []
    with (
        phiedge.Session.open(options.bundle, reuse=True, **opened) as keeping,
        phiedge.Session.open(options.bundle, **opened) as fresh,
    ):
        for session in (keeping, fresh):
            session.generate("Is it open?", [draw_scene(1).picture], max_new_tokens=4)
        for number in range(options.scenes):
            scene = draw_scene(_FIRST_SCENE + number)
            for place, question in enumerate(ask(scene, np.random.default_rng(number), _QUESTIONS)):
                kept, whole = (
                    session.generate(question.prompt, [scene.picture], think="off", max_new_tokens=40)
                    for session in (keeping, fresh)
                )
                same.append(kept.answer == whole.answer)
                first_ms["second" if place else "first"].append(kept.timings_ms.first_token)
                if place:
                    first_ms["second_fresh"].append(whole.timings_ms.first_token)
                    for part, times in parts_ms.items():
                        times.append(getattr(kept.timings_ms, part))
                    reused.append(kept.tokens.reused)
                    left.append(kept.tokens.prompt + kept.tokens.visual - kept.tokens.reused)
        limit_ms = [_rows_ms(fresh, round(statistics.median(left))) for _ in range(30)]
    return {
        "first_token_ms": {name: summary(times, digits=2) for name, times in first_ms.items()},
        "parts_of_second_ms": {name: summary(times, digits=2) for name, times in parts_ms.items()},
        "limit_ms": summary(limit_ms, digits=2),
        "reused_tokens": summary(reused, digits=0),
        "computed_tokens": summary(left, digits=0),
        "same_answers": round(statistics.mean(same), 4),
        "questions": len(same),
    }


def _rows_ms(session: phiedge.Session, rows: int) -> float:
    """What a prompt of so many rows takes by itself."""
    word = session._model.tokenizer.encode(" is")
    text = session._model.tokenizer.encode("a")
    assert len(word) == len(text) == 1
    prompt = "a" + " is" * (rows - 1)
    return session.generate(prompt, raw=True, max_new_tokens=1).timings_ms.prefill


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a second question about the same picture.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend")
    add_options(parser)
    options = parser.parse_args()
    settings = {"scenes": options.scenes, "threads": options.threads, "backend": options.backend or "onnxruntime"}
    publish("reuse", settings, measure(options), keep=options.keep)


if __name__ == "__main__":
    main()
