"""Tables of what a deadline, a form and the request before do to a request."""

from collections.abc import Mapping
from typing import Any

Rows = list[tuple[str, ...]]

_BESIDE = {"idle": "idle", "cpu": "beside computing", "memory": "beside streaming", "loaded": "beside neighbours"}
_REALTIME = {f"{name}, real-time": f"{label}, real-time" for name, label in _BESIDE.items()}


def deadlines(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    profile, step_ms, host_us = results["profile"], results["step_ms"], results["host_us_per_token"]["median"]
    conditions = {label: results[name] for name, label in (_BESIDE | _REALTIME).items() if name in results}
    empty = [""] * (len(conditions) - 1)
    rows: Rows = [("what", *conditions, "wanted")]
    for label, key, wanted in (
        ("admitted", "admitted", ""),
        ("refused", "refused", ""),
        ("of those with time, as it turned out", "refused_with_time", ""),
        ("answered in time, of the admitted", "answered_in_time", "≥ 0.99"),
        ("or with all the room of the answer", "there_in_time", ""),
        ("late", "late", ""),
    ):
        if any(key in found for found in conditions.values()):
            rows.append((label, *(f"{found.get(key, '')}" for found in conditions.values()), wanted))
    for quantile in dict.fromkeys(name for found in conditions.values() for name in found["overrun_ms"]):
        told = (f"{found['overrun_ms'].get(quantile, '')}" for found in conditions.values())
        rows.append((f"overrun in ms, {quantile}", *told, f"a token takes {step_ms}"))
    for key, label in (
        ("first_token_error", "first token, error of its forecast at the median and at p95"),
        ("first_token_error_by_profile_alone", "by the profile alone"),
    ):
        if any(key in found for found in conditions.values()):
            told = (_errors(found[key]) if key in found else "" for found in conditions.values())
            rows.append((label, *told, "≤ 5 %, ≤ 15 %" if key == "first_token_error" else ""))
    fresh = "whole requests that were not measured, the same"
    for suffix, label in (("_as_forecast", fresh), ("", "by the profile alone")):
        if f"median_error{suffix}" in profile:
            errors = _errors({"median": profile[f"median_error{suffix}"], "p95": profile[f"p95_error{suffix}"]})
            rows.append((label, errors, *empty, "≤ 5 %, ≤ 15 %" if suffix else ""))
    return [*rows, ("the controller, µs per token", f"{host_us}", *empty, "≤ 20")]


def _errors(error: Mapping[str, float]) -> str:
    return f"{100 * error['median']:.1f} %, {100 * error['p95']:.1f} %"


def deadlines_simulated(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        ("law", "admitted", "answered in time", "refused", "of those with time", "overrun p99.9, ms", "worst, ms")
    ]
    for law, found in results.items():
        late = found["overrun_ms"]
        counts = (found["refused"], found["refused_with_time"], late["p99.9"], late["worst"])
        rows.append((law, f"{found['admitted']}", f"{100 * found['answered_in_time']:.2f} %", *map(str, counts)))
    return rows


def accuracy_by_deadline(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    curves = results["right_in_time"]
    deadlines = zip(results["times"], results["deadlines_ms"], strict=True)
    rows: Rows = [("right and in time, %", *(f"{ms:g} ms, {times:g} of usual" for times, ms in deadlines))]
    return [*rows, *((name, *(f"{100 * share:.1f}" for share in curve)) for name, curve in curves.items())]


def beside_genai(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    usual = results["median_ms"]
    title = f"usually {usual['phiedge']:g} ms on phiedge, {usual['genai']:g} ms on genai"
    rows: Rows = [(title, "on time", "on time and of the form", "overrun p99, ms", "worst, ms")]
    for name, way in results["ways"].items():
        on_time, of_form = (f"{100 * way[key]:.1f} %" for key in ("on_time", "on_time_and_of_form"))
        of_form += _by_force(way, "completed_by_force")
        rows.append((name, on_time, of_form, f"{way['overrun_ms_p99']:g}", f"{way['overrun_ms_worst']:g}"))
    return rows


def jitter(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [("one token", "asked of the system", "ms, median", "p99", "p99.9", "worst", "p99 / median")]
    for condition, by_hygiene in results.items():
        for hygiene, found in by_hygiene.items():
            told = "nothing" if hygiene == "plain" else ", ".join(report.split(",")[0] for report in found["reports"])
            times = (found[f"{name}_ms"] for name in ("p50", "p99", "p999", "worst"))
            rows.append((_BESIDE[condition], told, *(f"{ms:g}" for ms in times), f"{found['p99_over_p50']:g}"))
    return rows


def structured(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [("what", "measured", "beside it")]
    for name, host in results["host"].items():
        for form in ("choice", "box", "schema"):
            us = host[form]
            told = f"{us['median']:.0f} µs, p90 {us['p90']:.0f}"
            rows.append(
                (f"a token of a {form}, {host['vocabulary']} tokens ({name})", told, f"{us['compile_ms']:.0f} ms once")
            )
        masks = host["mask_us"]
        peers = ", ".join(f"{peer} {us['median']:.0f} µs" for peer, us in masks.items() if peer != "llguidance")
        rows.append((f"of that the mask ({name})", f"{masks['llguidance']['median']:.0f} µs", peers))
    for task, shares in results["accuracy"].items():
        told = f"{shares['formed']:.0%} with a form"
        rows.append((f"right answers, {task}", told, f"{shares['free']:.0%} free, {shares['same']:.0%} the same"))
    for share, kept in results["deadlines"].items():
        if share != "usual_ms":
            formed, free = (
                f"{kept[name]['parses']:.0%} parse{_by_force(kept[name], 'by_force')}, {kept[name]['right']:.0%} right"
                for name in ("formed", "free")
            )
            rows.append((f"boxes by {share} of the usual time", f"{formed} with a form", f"{free} free"))
    return rows


def forms_by_deadline(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    engines = list(results["whole_answer_ms"])
    whole = (f"{results['whole_answer_ms'][engine]:,.0f} ms" for engine in engines)
    rows: Rows = [("deadline", *engines), ("none: a whole answer", *whole)]
    for share, found in results.items():
        if share not in ("whole_answer_ms", "peer_version"):
            told = []
            for engine in engines:
                kept = found[engine]
                refused = f", {kept['refused']} refused" if kept["refused"] else ""
                late = f", {kept['late']} late by up to {kept['overrun_ms_most']} ms" if kept["late"] else ""
                forced = _by_force(kept, "completed_by_force")
                told.append(f"{kept['in_time_and_parses']:.0%} in time and parse{forced}{refused}{late}")
            rows.append((f"{found['deadline_ms']:,} ms ({share} of the slower)", *told))
    return rows


def _by_force(kept: Mapping[str, Any], name: str) -> str:
    """How many of them had something in them that no model chose."""
    return f" ({kept[name]:.0%} by force)" if kept.get(name) else ""


def reuse(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    first, parts = results["first_token_ms"], results["parts_of_second_ms"]
    rows: Rows = [("until the first token", "ms, median", "p90")]
    labels = {
        "first": "the first question about a picture",
        "second": "a further one, what is common kept",
        "second_fresh": "the same with nothing kept",
    }
    for name, label in labels.items():
        rows.append((label, f"{first[name]['median']:.2f}", f"{first[name]['p90']:.2f}"))
    prefill, limit = parts["prefill"], results["limit_ms"]
    computed = f"{results['computed_tokens']['median']:.0f} rows computed"
    rows.append((f"of the further one: {computed}", f"{prefill['median']:.2f}", f"{prefill['p90']:.2f}"))
    rows.append(("limit: as many rows by themselves", f"{limit['median']:.2f}", f"{limit['p90']:.2f}"))
    rows.append((f"the same answers, of {results['questions']}", f"{results['same_answers']:.1%}", ""))
    return rows
