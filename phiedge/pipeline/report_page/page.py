"""The page: what the bundle costs first, then where that comes from, then what more bytes would buy."""

from html import escape
from typing import Any, TypeAlias

from phiedge.pipeline.report_page.alternatives import alternatives, sensitivity
from phiedge.pipeline.report_page.cache import keys_and_values
from phiedge.pipeline.report_page.figures import anything, bar, megabytes, number, percent, table
from phiedge.pipeline.report_page.layers import along_layers, divergence, errors, outliers
from phiedge.pipeline.report_page.style import STYLE
from phiedge.pipeline.report_page.vision import vision

Report: TypeAlias = dict[str, Any]
_KNOWN = (
    "precision",
    "method",
    "group_size",
    "notes",
    "totals",
    "tensors",
    "calibration",
    "kv_cache",
    "vision",
    "sensitivity",
    "mixed",
    "end_to_end",
    "accuracy",
)
_KNOWN_OF_CALIBRATION = (
    "data",
    "samples",
    "held_out",
    "rows",
    "visual_row_weight",
    "divergence",
    "layers",
    "head",
    "weight_scales",
)


def report_page(report: Report, *, model: str, target: str) -> str:
    """The page of a report on `model`, exported for the device `target`."""
    title = f"{model}: {report['precision']} for {target}"
    calibration = report.get("calibration") or {}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_lead(report))}</p>',
        _cards(report),
        _notes(report),
        _accuracy(report),
        divergence(calibration),
        errors(calibration),
        along_layers(calibration),
        sensitivity(report),
        alternatives(report),
        outliers(calibration),
        keys_and_values(report),
        vision(report),
        _data(calibration),
        *(_other(key, report[key]) for key in report if key not in _KNOWN and report[key]),
        *(_other(key, part) for key, part in calibration.items() if key not in _KNOWN_OF_CALIBRATION and part),
        _tensors(report),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n{body}\n'
        '<p class="soft">The same as data: quantization.json beside this page. '
        "<code>phiedge verify</code> holds both against the weights.</p>\n</body></html>\n"
    )


def _lead(report: Report) -> str:
    groups = f" in groups of {report['group_size']}" if report.get("group_size") else ""
    calibration = report.get("calibration")
    data = f", calibrated on {calibration['data']} ({calibration['samples']} examples)" if calibration else ""
    said = f"{report['precision']} weights{groups}{data or ', rounded without data' if groups else ''}."
    if report.get("end_to_end"):
        found = report["end_to_end"]
        said += (
            f" Beside fp32, the likeliest next token is the same in {percent(found['top1_agreement'])} "
            f"of the goldens' {found['positions']} tokens."
        )
    if report.get("mixed"):
        said += f" {len(report['mixed']['wider'])} linears have more bits."
    return said


def _cards(report: Report) -> str:
    totals, cards = report.get("totals") or {}, list[tuple[str, str]]()
    if totals.get("weights"):
        cards.append((megabytes(totals["stored_bytes"]), "quantised weights, with scales"))
        cards.append((f"{totals['bits_per_weight']:.2f}", "bits per weight"))
    if report.get("accuracy"):
        accuracy = report["accuracy"]
        cards.append(
            (percent(accuracy["quantised"]), f"of {accuracy['asked']} right; fp32 {percent(accuracy['fp32'])}")
        )
    if report.get("end_to_end"):
        cards.append((number(report["end_to_end"]["kl_mean"]), "nats of KL from fp32, whole bundle"))
        cards.append((percent(report["end_to_end"]["top1_agreement"]), "same next token as fp32"))
    of_rows = (report.get("calibration") or {}).get("divergence") or {}
    if "all" in of_rows and not report.get("end_to_end"):
        cards.append((number(of_rows["all"]["kl_mean"]), "nats of KL, held-out rows"))
        cards.append((percent(of_rows["all"]["top1_agreement"]), "same next token, held-out rows"))
    told = "".join(f'<div class="card"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in cards)
    return f'<div class="cards">{told}</div>' if cards else ""


def _notes(report: Report) -> str:
    notes = report.get("notes") or []
    return "<ul>" + "".join(f"<li>{escape(str(note))}</li>" for note in notes) + "</ul>" if notes else ""


def _accuracy(report: Report) -> str:
    found = report.get("accuracy")
    if not found:
        return ""
    tasks = {key: (found["fp32_tasks"].get(key), found["quantised_tasks"].get(key)) for key in found["fp32_tasks"]}
    rows = [
        (escape(str(name)), _score(full), _score(small), bar(_share(small)))
        for name, (full, small) in [*tasks.items(), ("all", (found["fp32"], found["quantised"]))]
    ]
    head = ("task", "fp32", str(report["precision"]), "")
    return (
        f"<h2>Accuracy</h2><p>{escape(found['suite'])}, {found['asked']} questions; always giving the commonest answer "
        f"would get {percent(found['chance'])}.</p>" + table(head, rows, right=head[1:3])
    )


def _score(value: Any) -> str:
    return percent(_share(value))


def _share(value: Any) -> float:
    if isinstance(value, dict):
        return float(value.get("accuracy", value.get("right", 0) / max(value.get("asked", 1), 1)))
    return float(value)


def _data(calibration: Report) -> str:
    if not calibration:
        return ""
    rows, weight = calibration["rows"], calibration.get("visual_row_weight")
    told = ", ".join(f"{count:,} of {kind}" for kind, count in rows.items())
    said = f"{calibration['samples']} examples, {calibration['held_out']} of them held out; rows: {told}."
    if weight is not None and rows.get("visual"):
        said += f" A row of a picture weighs {number(weight)} of a row of text, so that pictures have half at most."
    if "weight_scales" in calibration:
        said += f" Weights have one scale for each {calibration['weight_scales']}."
    return f"<h2>What it was calibrated on</h2><p>{escape(str(calibration['data']))}: {escape(said)}</p>"


def _tensors(report: Report) -> str:
    rows = [
        (
            f'<span class="name">{escape(one["name"])}</span>',
            escape(str(one["method"])),
            f"{one['bits']}",
            megabytes(one["stored_bytes"]),
            number(one["relative_l2"]),
            number(one["max_abs_error"]),
        )
        for one in report.get("tensors") or []
    ]
    if not rows:
        return ""
    head = ("tensor", "method", "bits", "size", "|W - Q| / |W|", "largest error")
    return (
        f"<h2>Every tensor</h2><details><summary>{len(rows)} tensors</summary>" + table(head, rows, right=head[2:])
    ) + "</details>"


def _other(key: str, value: Any) -> str:
    return f"<h2>{escape(key.replace('_', ' ').capitalize())}</h2>{anything(value)}"
