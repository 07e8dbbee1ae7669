"""What `phiedge plan` shows: one device in full, or all in one table; and the same for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from phiedge.cli.console import show_table
from phiedge.devices.planning.advice import Change
from phiedge.devices.planning.efficiency import Efficiency
from phiedge.devices.planning.plan import Plan
from phiedge.devices.planning.time import Span

_RIGHT = ("GB free", "vision", "prompt", "a token", "all", "expected")
_VERDICTS = {
    "safe": "even the most that is expected is in time",
    "likely": "what is planned is in time, the most that is expected is not",
    "unlikely": "only the least that is expected is in time",
    "late": "not even the least that is expected is in time",
    "impossible": "the device cannot do it in that time, whatever the software",
}
_IMPOSSIBLE_HERE = "this machine was not that fast when it was measured, whatever the software"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a profile of the very machine says of the deadline, by its backend; no verdict where there is no deadline.

    It goes before the verdict by limits: that is made of the efficiency of other engines, this was measured.
    """

    backend: str
    verdict: Literal["promised", "refused"] | None


def show_plan(plan: Plan, advice: Sequence[Change], measured: Measured | None = None) -> None:
    """Print one plan."""
    task, request = plan.task, plan.task.request
    counts = ", ".join(f"{count}" for count in request.patches)
    pictures = f"pictures of {counts} visual tokens" if counts else "no pictures"
    print(f"{task.model}, {plan.storage.name}{_told_cache(plan)}, on {plan.device.title} ({plan.device.name})")
    print(
        f"{pictures}, {request.prompt_tokens} tokens of text, an answer of "
        f"{request.answer_tokens}; room for {task.max_context} tokens\n"
    )
    show_table(None, ("memory", "GB"), _memory_rows(plan), right="GB")
    print()
    show_table(None, ("time", "limit", "planned", "expected"), _time_rows(plan), right="limit planned expected")
    print()
    for line in _evidence(plan):
        print(line)
    _print_answer(plan, measured)
    if advice:
        print("what would do:")
        show_table(None, ("", ""), [(change.what, f"{_ms(change.planned_ms)} planned") for change in advice], right=())


def show_plans(plans: Sequence[Plan]) -> None:
    """Print all plans in one table."""
    first = plans[0].task
    request = first.request
    print(
        f"{first.model}: {request.visual_tokens} visual tokens, {request.prompt_tokens} of text, an answer of "
        f"{request.answer_tokens}; room for {first.max_context}\n"
    )
    columns = ["device", "stored", "GB free", "fits", "vision", "prompt", "a token", "all", "expected"]
    if first.deadline_ms is not None:
        columns.append("deadline")
    show_table(None, columns, [_row(plan) for plan in plans], right=_RIGHT)
    print("\nTimes are planned, expected from the least to the most; `phiedge plan -t NAME` says on what evidence.")


def _told_cache(plan: Plan) -> str:
    """A cache that is not of the type that is computed in."""
    return ", cache of 8 bits" if plan.storage.cache_bits == 8 else ""


def plan_as_dict(plan: Plan, advice: Sequence[Change], measured: Measured | None = None) -> dict[str, object]:
    """JSON-ready values: bytes, milliseconds, and the sources of every efficiency."""
    memory, task = plan.memory, plan.task
    verdict, feasible = plan.verdict, plan.feasible
    return {
        "device": plan.device.name,
        "model": task.model,
        "precision": plan.storage.name,
        "cache_bits": plan.storage.cache_bits,
        "request": {
            "visual_tokens": list(task.request.patches),
            "prompt_tokens": task.request.prompt_tokens,
            "answer_tokens": task.request.answer_tokens,
        },
        "max_context": task.max_context,
        "memory": {
            **asdict(memory),
            "needed_bytes": memory.needed_bytes,
            "spare_bytes": memory.spare_bytes,
            "fits": memory.fits,
        },
        "time": {name: asdict(span) for name, span in _spans(plan).items()},
        "efficiency": {name: _as_dict(efficiency) for name, efficiency in _efficiencies(plan).items()},
        "sampled": None if plan.speeds.sampled is None else asdict(plan.speeds.sampled),
        "deadline_ms": task.deadline_ms,
        "verdict": verdict if measured is None else measured.verdict,
        "feasible": feasible if measured is None else memory.fits and measured.verdict != "refused",
        "verdict_by": "limits" if measured is None else "profile",
        "verdict_backend": None if measured is None else measured.backend,
        "by_limits": {"verdict": verdict, "feasible": feasible},
        "changes": [asdict(change) for change in advice],
    }


def _spans(plan: Plan) -> Mapping[str, Span]:
    time = plan.time
    return {
        "vision": time.vision,
        "prefill": time.prefill,
        "first_token": time.first_token,
        "token": time.token,
        "answer": time.answer,
        "total": time.total,
    }


def _evidence(plan: Plan) -> list[str]:
    """What the times rest on, in a line for each part."""
    sampled = plan.speeds.sampled
    told = [f"{part}: {_told(efficiency)}" for part, efficiency in _efficiencies(plan).items()]
    if sampled is None:
        return told
    first = (
        f"times were sampled on this machine: {sampled.layers} of {plan.task.facts.num_layers} layers of this shape "
        f"ran here; up to {sampled.error:.0%} more or less is expected"
    )
    return [first, *(line for line in told if line.startswith("pictures:") and not sampled.picture_ms)]


def _efficiencies(plan: Plan) -> Mapping[str, Efficiency]:
    speeds = plan.speeds
    told = {"tokens": speeds.decoding, "prompt": speeds.prompts, "pictures": speeds.pictures}
    return told if speeds.cache is speeds.decoding else {**told, "cache": speeds.cache}


def _as_dict(efficiency: Efficiency) -> dict[str, object]:
    return {
        "planned": efficiency.planned,
        "least": efficiency.least,
        "most": efficiency.most,
        "evidence": efficiency.evidence,
        "rows": [
            {
                "title": row.title,
                "share": row.share,
                "source": row.source.title,
                "url": row.source.url,
                "note": row.note,
            }
            for row in efficiency.rows
        ],
    }


def _memory_rows(plan: Plan) -> list[tuple[str, str]]:
    memory = plan.memory
    rows = [("weights", memory.weights_bytes)]
    if memory.unified:
        rows.append(("embedding table", memory.embedding_bytes))
    rows += [
        (f"cache of {memory.max_context} positions", memory.cache_bytes),
        ("engine, context and activations", memory.workspace_bytes),
        ("the system" if memory.unified else "kept free", memory.system_bytes),
        ("needed", memory.needed_bytes),
        ("there is" + (" (estimated)" if memory.estimated else ""), memory.available_bytes),
        ("left" if memory.fits else "lacking", abs(memory.spare_bytes)),
    ]
    return [(name, f"{size / 1e9:.2f}") for name, size in rows if size]


def _time_rows(plan: Plan) -> list[tuple[str, str, str, str]]:
    names = {
        "vision": "pictures",
        "prefill": "prompt",
        "first_token": "first token",
        "token": "a token",
        "answer": "answer",
        "total": "all",
    }
    return [
        (names[name], _ms(span.limit_ms), _ms(span.planned_ms), _expected(span)) for name, span in _spans(plan).items()
    ]


def _row(plan: Plan) -> list[str]:
    time = plan.time
    cells = [
        plan.device.name,
        plan.storage.name,
        f"{plan.memory.spare_bytes / 1e9:.1f}",
        "yes" if plan.memory.fits else "no",
    ]
    if not plan.memory.fits:
        return [*cells, *["-"] * (5 if plan.task.deadline_ms is None else 6)]
    cells += [_ms(span.planned_ms) for span in (time.vision, time.prefill, time.token, time.total)]
    cells.append(_expected(time.total))
    return cells if plan.verdict is None else [*cells, plan.verdict]


def _print_answer(plan: Plan, measured: Measured | None) -> None:
    memory = plan.memory
    if memory.fits:
        most = min(memory.largest_context, plan.task.facts.max_position_embeddings)
        print(f"\nit fits, with room for up to {most} tokens")
    else:
        print(f"\nit does not fit: {memory.needed_bytes / 1e9:.1f} GB needed, {memory.available_bytes / 1e9:.1f} there")
    if plan.task.deadline_ms is None or plan.verdict is None:
        return
    deadline, by_limits = f"deadline of {_ms(plan.task.deadline_ms)}", f"{plan.verdict}, {_meaning(plan, plan.verdict)}"
    if measured is None:
        print(f"{deadline}: {by_limits}")
    else:
        print(f"{deadline}: {measured.verdict}, by the profile of {measured.backend} on this machine, below")
        print(f"by the limits in the table above alone: {by_limits}")


def _meaning(plan: Plan, verdict: str) -> str:
    """Limits of the catalogue hold at any time; those of this machine were measured beside what else it did."""
    here = plan.device.sm is None and verdict == "impossible"
    return _IMPOSSIBLE_HERE if here else _VERDICTS[verdict]


def _told(efficiency: Efficiency) -> str:
    sources = list(dict.fromkeys(row.source.title for row in efficiency.rows))
    many = "one measurement" if len(efficiency.rows) == 1 else f"{len(efficiency.rows)} measurements"
    count = f"{many}: {'; '.join(sources)}" if sources else "this project's measurements"
    share = (
        f"{efficiency.planned:.0%} of the limit is planned, {efficiency.least:.0%} to {efficiency.most:.0%} expected"
    )
    return f"{share} ({efficiency.evidence}; {count})"


def _expected(span: Span) -> str:
    return f"{_ms(span.least_ms)} - {_ms(span.most_ms)}"


def _ms(ms: float) -> str:
    if ms >= 10_000:
        return f"{ms / 1000:,.0f} s"
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"
