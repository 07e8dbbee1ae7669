"""Evidence as one HTML file that needs nothing else: the verdict first, then what it rests on."""

import statistics
from html import escape
from typing import Any

from phiedge.acceptance.charts import Line, miss_map, percentile_curve, stacked_bar, time_series

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #fff; --line: #e4e7ec; --data: #2f5fd0;
        --bad: #c62828; --good: #1b7f4b; --open: #a15c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14181f; --line: #2b323d;
        --data: #7aa2ff; --bad: #ff6b6b; --good: #4cc38a; --open: #f0a43a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 2.4rem; margin: 0; } h2 { margin-top: 2.2rem; } h3 { margin: 1.4rem 0 .3rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .7rem .35rem 0;
       border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 500; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; } code { overflow-wrap: anywhere; font-size: .85em; }
.PASS { color: var(--good); } .FAIL { color: var(--bad); } .INCONCLUSIVE, .INVALID { color: var(--open); }
.soft { color: var(--soft); } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } svg .y { text-anchor: end; }
svg .x { text-anchor: middle; } svg .grid { stroke: var(--line); } svg line.limit { stroke: var(--bad);
       stroke-dasharray: 5 4; } svg text.limit { fill: var(--bad); } svg .data { fill: none; stroke: var(--data);
       stroke-width: 1.8; } svg .hit { fill: var(--data); fill-opacity: .6; } svg .miss { fill: var(--bad); }
svg .clean { fill: var(--line); } svg text.on { fill: #fff; }
svg .part0 { fill: #2f5fd0; } svg .part1 { fill: #7a4fbf; }
svg .part2 { fill: #b04a8b; } svg .part3 { fill: #b8643a; } svg .part4 { fill: #5b6b7f; }
"""


def html_report(record: dict[str, Any]) -> str:
    """The page of `evidence`."""
    verdict = record["verdict"]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in record["reasons"])
    parts = [
        f'<h1 class="{verdict}">{verdict}</h1>',
        f"<ul>{reasons}</ul>",
        _budgets(record),
        *(_workload(record, name, samples) for name, samples in record["samples"].items() if samples),
        _circumstances(record),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{verdict}: phiedge accept</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _budgets(record: dict[str, Any]) -> str:
    rows = []
    for one in record["budgets"]:
        seen, bounds = one["strength"] or {}, one["bounds"]
        rho = seen.get("clusters", {}).get("rho")
        rows.append(
            f"<tr><td>{escape(one['workload'])}</td><td>{escape(one['budget'])}</td>"
            f'<td class="{one["verdict"]}">{one["verdict"]}</td>'
            f'<td class="n">{seen.get("misses", "-")} / {seen.get("requests", "-")}</td>'
            f'<td class="n">{_number(bounds["lower"])} … {_number(bounds["upper"])}</td>'
            f'<td class="n">{"-" if rho is None else f"{rho:.2f}"}</td></tr>'
        )
    return (
        "<h2>Budgets</h2><table><tr><th>workload</th><th>budget</th><th>verdict</th><th>misses</th>"
        "<th>quantile lies in, ms</th><th>P(miss | miss)</th></tr>" + "".join(rows) + "</table>"
    )


def _workload(record: dict[str, Any], name: str, samples: list[dict[str, Any]]) -> str:
    """All charts of one workload: those of a metric for each metric with a budget."""
    budgets = [one for one in record["spec"]["content"]["budgets"] if one["workload"] in (name, "*")]
    parts = [
        f"<h2>{escape(name)}</h2>",
        f'<p class="soft">{len(samples)} requests, latencies from the intended start.</p>',
    ]
    parts += [
        _metric(metric, [one for one in budgets if one["metric"] == metric], samples)
        for metric in dict.fromkeys(one["metric"] for one in budgets)
    ]
    phases = list(samples[0]["phases_ms"])
    means = [(key, statistics.fmean(sample["phases_ms"].get(key, 0.0) for sample in samples)) for key in phases]
    waited = statistics.fmean(sample["late_ms"] for sample in samples)
    if phases:
        parts += ["<h3>Where the time goes, on average</h3>", stacked_bar([*means, ("waiting", waited)])]
    return "\n".join(parts)


def _metric(metric: str, budgets: list[dict[str, Any]], samples: list[dict[str, Any]]) -> str:
    strictest = min(one["limit_ms"] for one in budgets)
    limits = [
        Line(at=one["limit_ms"], name=f"{one['limit_ms']:g} ms at {100 * one['quantile']:g} %") for one in budgets
    ]
    values = [sample[metric] for sample in samples]
    missed = [value is None or value > strictest for value in values]
    there = [(samples[place]["at_s"], value, missed[place]) for place, value in enumerate(values) if value is not None]
    title = f"<h3>{escape(metric)}</h3>"
    if not there:
        return title + "<p>No request came to it.</p>"
    times, known, late = zip(*there, strict=True)
    return "\n".join(
        [
            title,
            percentile_curve(known, limits),
            time_series(times, known, late, limits),
            f'<p class="soft">Each square is a request, in order; red is above {strictest:g} ms.</p>',
            miss_map(missed),
        ]
    )


def _circumstances(record: dict[str, Any]) -> str:
    facts: list[tuple[str, object]] = [
        ("written", record["written"]),
        ("ended", record["ended"]),
        ("phiedge", record["phiedge_version"]),
        *((f"bundle {key}", value) for key, value in (record["bundle"] or {}).items()),
        ("spec sha256", record["spec"]["sha256"]),
        *((key.replace("_", " "), value) for key, value in record["machine"].items()),
        *((key.replace("_", " "), value) for key, value in record["environment"]["figures"].items()),
        ("times to open, ms", ", ".join(f"{value:.4g}" for value in record["opened_ms"])),
        ("seal (sha256)", record["seal"]),
    ]
    rows = "".join(f"<tr><th>{escape(key)}</th><td><code>{escape(str(value))}</code></td></tr>" for key, value in facts)
    return f"<h2>Circumstances</h2><table>{rows}</table>"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
