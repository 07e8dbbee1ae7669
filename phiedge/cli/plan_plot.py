"""A plan as a picture: the time of the whole answer against the visual tokens of its picture, beside the deadline.

What is planned is a line, what is expected a band around it, the device's own limit a dashed line.
"""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from phiedge.cli.bench_plot import FAINT, LIMIT, MEASURED, STYLE, write_figure
from phiedge.devices.planning.plan import Plan

_SIZE_INCHES, _DPI = (8.0, 5.0), 150
_POINTS = 60
_LATE = "#b3261e"


def draw(plan: Plan, path: Path) -> None:
    """Write the picture of `plan` to `path`, in the format of its suffix; never a part of it."""
    facts, request = plan.task.facts, plan.task.request
    room = plan.task.max_context - request.prompt_tokens - request.answer_tokens
    least, most = facts.min_num_patches, min(facts.max_num_patches, room)
    counts = sorted({least + (most - least) * place // (_POINTS - 1) for place in range(_POINTS) if most >= least})
    totals = [plan.with_request(replace(request, patches=(count,))).time.total for count in counts]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI)
        axes = figure.subplots()
        axes.set_title(f"{plan.task.model}, {plan.storage.name}, on {plan.device.title}")
        axes.set_xlabel(f"visual tokens of one picture, with {request.prompt_tokens} tokens of text")
        axes.set_ylabel(f"ms until {request.answer_tokens} tokens are answered")
        low, high = [total.least_ms for total in totals], [total.most_ms for total in totals]
        axes.fill_between(counts, low, high, color=FAINT, alpha=0.45, lw=0, label="expected")
        axes.plot(counts, [total.planned_ms for total in totals], color=MEASURED, lw=2, label="planned")
        axes.plot(counts, [total.limit_ms for total in totals], "--", color=LIMIT, lw=1.6, label="limit")
        if plan.task.deadline_ms is not None:
            axes.axhline(plan.task.deadline_ms, color=_LATE, lw=1.4, label="deadline")
        axes.set_ylim(0, None)
        axes.legend(loc="upper left")
        figure.tight_layout()
        write_figure(figure, path)
