"""Evidence as one HTML file that needs nothing else: the verdict first, then what it rests on."""

import statistics
from collections import Counter
from html import escape
from typing import Any

from phiedge.acceptance.charts import Curve, Line, columns, miss_map, percentile_curve, stacked_bar, time_series
from phiedge.acceptance.circumstances import circumstances
from phiedge.acceptance.report_style import STYLE

_LEGEND = {
    "PASS": "All budgets are shown to be kept.",
    "FAIL": "One budget at least is shown not to be kept.",
    "INCONCLUSIVE": "Neither is shown yet.",
    "INVALID": "The machine was not as the specification asks, or did not stay as it was: nothing is shown.",
}
# What sensors told: the column, its name, its unit, and by what it is divided.
_SENSORS = (
    ("celsius", "hottest sensor", "°C", 1.0),
    ("gpu_mhz", "GPU clock", "MHz", 1.0),
    ("memory_mhz", "memory clock", "MHz", 1.0),
    ("core_mhz", "clock of the cores", "MHz", 1.0),
    ("watts", "power", "W", 1.0),
    ("over_current_events", "over-current events", "", 1.0),
    ("available_bytes", "memory available", "GB", 1e9),
    ("gpu_used_bytes", "memory used on cards", "GB", 1e9),
)


def html_report(record: dict[str, Any]) -> str:
    """The page of `evidence`."""
    verdict, workloads = record["verdict"], [item for item in record["samples"].items() if item[1]]
    parts = [
        _header(record),
        _budgets(record),
        *(_workload(record, name, samples) for name, samples in workloads),
        _machine_over_time(record),
        circumstances(record),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{verdict}: phiedge accept</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _header(record: dict[str, Any]) -> str:
    verdict, subject = record["verdict"], record["bundle"] or {}
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in record["reasons"])
    notes = "".join(f"<li>{escape(note)}</li>" for note in record["notes"])
    device = record["device"]["identity"]["device"] or record["machine"]["cpu"]
    named = [subject.get("model"), subject.get("precision"), f"on {device}", record["written"].replace("T", " ")[:16]]
    return (
        f'<header><p class="soft">{escape(" · ".join(str(part) for part in named if part))} UTC</p>'
        f'<h1 class="{verdict}">{verdict}</h1><p>{_LEGEND[verdict]}</p><ul>{reasons}</ul>'
        + (f'<p class="soft">Also noted:</p><ul class="soft">{notes}</ul>' if notes else "")
        + "</header>"
    )


def _budgets(record: dict[str, Any]) -> str:
    rows = []
    for one in record["budgets"]:
        seen = one["strength"] or {}
        rho = seen.get("clusters", {}).get("rho")
        counts = f"{seen['misses']:,} of {seen['requests']:,}" if seen else "-"
        rows.append(
            f"<tr><td>{escape(one['workload'])}</td><td>{escape(one['budget'])}</td>"
            f'<td><span class="mark {one["verdict"]}">{one["verdict"]}</span></td>'
            f'<td class="n">{counts}</td><td class="n">{_shown(one)}</td>'
            f'<td class="n">{"-" if rho is None else f"{rho:.2f}"}</td></tr>'
        )
    confidence = record["spec"]["content"]["statistics"]["confidence"]
    return (
        "<h2>Budgets</h2><table><tr><th>workload</th><th>budget</th><th>verdict</th><th>misses</th>"
        "<th>lies between</th><th>P(miss | miss)</th></tr>" + "".join(rows) + "</table>"
        f'<p class="soft">Together they are wrong with a probability of at most {100 * (1 - confidence):.3g} %. '
        "What a budget is about lies between the two numbers with its share of that, if samples are independent.</p>"
    )


def _shown(one: dict[str, Any]) -> str:
    lower, upper, unit = one["bounds"]["lower"], one["bounds"]["upper"], one["unit"]
    if unit == "bytes":
        return "?" if upper is None else f"{upper / 2**20:,.0f} MiB"
    factor, sign = (100.0, "%") if unit == "share" else (1.0, "ms")
    low, high = ("?" if value is None else f"{factor * value:.4g}" for value in (lower, upper))
    return f"{low} … {high} {sign}"


def _workload(record: dict[str, Any], name: str, samples: list[dict[str, Any]]) -> str:
    """All charts of one workload: those of a metric for each metric with a budget."""
    content = record["spec"]["content"]
    budgets = [one for one in content["budgets"] if one["workload"] in (name, "*")]
    finishes = ", ".join(f"{count:,} {finish}" for finish, count in Counter(s["finish"] for s in samples).most_common())
    parts = [
        f"<h2>{escape(name)}</h2>",
        f'<p class="soft">{len(samples):,} requests ({finishes}); latencies count from the intended start.</p>',
    ]
    parts += [
        _metric(metric, [one for one in budgets if one["metric"] == metric], samples)
        for metric in dict.fromkeys(one["metric"] for one in budgets)
    ]
    answers = [one for one in content["accuracies"] if one["workload"] in (name, "*")]
    if answers:
        parts.append(_answers(answers, samples))
    parts.append(_forms(next(one for one in content["workloads"] if one["name"] == name), samples))
    parts.append(_phases(samples))
    return "\n".join(parts)


def _phases(samples: list[dict[str, Any]]) -> str:
    """Where the time goes: means over requests, and each part's slowest tenth."""
    timed = [sample for sample in samples if sample["phases_ms"]]
    if not timed:
        return ""
    of_each = {key: [sample["phases_ms"].get(key, 0.0) for sample in timed] for key in timed[0]["phases_ms"]}
    of_each["waiting for its turn"] = [sample["late_ms"] for sample in timed]
    rows = "".join(
        f'<tr><td>{escape(key)}</td><td class="n">{statistics.fmean(values):.4g}</td>'
        f'<td class="n">{_tenth(values):.4g}</td><td class="n">{max(values):.4g}</td></tr>'
        for key, values in of_each.items()
    )
    return (
        "<h3>Where the time goes</h3>"
        + stacked_bar([(key, statistics.fmean(values)) for key, values in of_each.items()])
        + "<table><tr><th>phase</th><th>mean, ms</th><th>slowest tenth from</th><th>slowest</th></tr>"
        + f"{rows}</table>"
    )


def _tenth(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.9 * len(values)))]


def _metric(metric: str, budgets: list[dict[str, Any]], samples: list[dict[str, Any]]) -> str:
    about = [sample for sample in samples if metric != "abort_ms" or sample["abort_ms"] is not None]
    strictest = min(one["limit_ms"] for one in budgets)
    limits = [
        Line(at=one["limit_ms"], name=f"{one['limit_ms']:g} ms at {100 * one['quantile']:g} %") for one in budgets
    ]
    values = [sample[metric] for sample in about]
    missed = [value is None or value > strictest for value in values]
    there = [(sample["at_s"], sample[metric], late) for sample, late in zip(about, missed, strict=True)]
    there = [point for point in there if point[1] is not None]
    title = f"<h3>{escape(metric)}</h3>"
    if not there:
        return title + "<p>No request came to it.</p>"
    times, known, late = zip(*there, strict=True)
    return "\n".join(
        [
            title,
            percentile_curve(known, limits),
            time_series(times, known, late, limits),
            f'<p class="soft">Each square is a request, in order; {sum(missed):,} in red missed {strictest:g} ms.</p>',
            miss_map(missed),
        ]
    )


def _answers(budgets: list[dict[str, Any]], samples: list[dict[str, Any]]) -> str:
    """Each case once, in the order in which they were asked; red is wrong, or too late for the strictest budget."""
    limit_ms = min((one["limit_ms"] for one in budgets if one["limit_ms"] is not None), default=float("inf"))
    once: dict[int, dict[str, Any]] = {}
    for sample in samples:
        if sample["case"] is not None:
            once.setdefault(sample["case"], sample)
    wrong = [not sample["right"] or sample["e2e_ms"] is None or sample["e2e_ms"] > limit_ms for sample in once.values()]
    return (
        "<h3>Answers</h3>"
        f'<p class="soft">{len(wrong) - sum(wrong):,} of {len(wrong):,} cases were answered rightly and in time; each '
        f"square is a case, red those that were not.</p>{miss_map(wrong)}"
    )


def _forms(workload: dict[str, Any], samples: list[dict[str, Any]]) -> str:
    """Which answers have the form that was asked for; nothing where they were free."""
    asked = [sample for sample in samples if sample["formed"] is not None]
    if not asked:
        return ""
    ragged = [not sample["formed"] for sample in asked]
    return (
        "<h3>Forms</h3>"
        f'<p class="soft">{len(ragged) - sum(ragged):,} of {len(ragged):,} answers have the form that was asked for, '
        f"{escape(_form_asked(workload))}; each square is a request, red those that have not.</p>{miss_map(ragged)}"
    )


def _form_asked(workload: dict[str, Any]) -> str:
    if workload["choice"] is not None:
        return f"one of {', '.join(workload['choice'])}"
    if workload["pattern"] is not None:
        return f"the pattern {workload['pattern']}"
    if workload["schema"] is not None:
        return f"JSON by {workload['schema']}"
    return "a box" if workload["box"] else "a point"


def _machine_over_time(record: dict[str, Any]) -> str:
    """What sensors told, one chart below the other on one axis of time."""
    series = record["environment"]["series"]
    if not series or len(series["at_s"]) < 2:
        return ""
    curves = [
        Curve(name=name, unit=unit, values=[None if value is None else value / divisor for value in series[key]])
        for key, name, unit, divisor in _SENSORS
        if key in series
    ]
    return f"<h2>The machine meanwhile</h2>{columns(series['at_s'], curves)}" if curves else ""
