"""Writes the tables of benchmarks/README.md from the newest result of each benchmark: `python -m benchmarks.tables`.

A benchmark without a result says so in its place. A test compares the page with what this makes.
"""

import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.acceptance_tables import acceptance_verdicts, plan_here
from benchmarks.bundle_speed import NAMES as BUNDLES
from benchmarks.cache_tables import kv_cache, reference_kv_cache
from benchmarks.deadline_tables import (
    accuracy_by_deadline,
    beside_genai,
    deadlines,
    deadlines_simulated,
    forms_by_deadline,
    jitter,
    reuse,
    structured,
)
from benchmarks.ecosystem_table import ecosystem_checkpoints
from benchmarks.record import latest

PAGE = Path(__file__).with_name("README.md")

Rows = list[tuple[str, ...]]


def _bandwidth(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [("reduction", "read GB/s, median", "p10 to p90")]
    for name, rate in results["by_reduction_gbps"].items():
        rows.append((name, f"{rate['median']:.1f}", f"{rate['p10']:.1f} to {rate['p90']:.1f}"))
    return [*rows, (f"the machine, {settings['threads']} threads", f"**{results['read_gbps']:.1f}**", "")]


def _startup(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    wanted = {
        "import_ms": ("`import phiedge`", "100"),
        "help_ms": ("`phiedge -h`, whole process", "300"),
        "session_open_ms": ("`Session.open`, reference bundle", "1000"),
        "session_open_with_imports_ms": ("the same with its imports", ""),
        "python_alone_ms": ("an empty Python process", ""),
    }
    rows: Rows = [("what", "ms, median", "p90", "wanted")]
    for key, (label, limit) in wanted.items():
        if key in results:
            rows.append((label, f"{results[key]['median']:.1f}", f"{results[key]['p90']:.1f}", limit and f"≤ {limit}"))
    return rows


def _export(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    return [
        ("what", "measured", "wanted"),
        (
            f"`phiedge export --target {settings['target']}`, reference model",
            f"{_median(results, 'export_s')} s",
            "≤ 60 s",
        ),
        ("peak resident memory, torch included", f"{results['peak_rss_gib']:.2f} GiB", "≤ 1.5 GiB"),
        ("the bundle", f"{results['bundle_bytes'] / 1e6:.1f} MB", ""),
    ]


def _vision(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    names = list(results["pictures"][0]["median_ms"])
    rows: Rows = [("patches", "limit, ms", *(f"{name}, ms" for name in names), "phiedge of the limit")]
    for picture in results["pictures"]:
        medians, limit_ms = picture["median_ms"], picture["limit_ms"]
        told = (f"{medians[name]:,.0f}" for name in names)
        rows.append((str(picture["patches"]), f"{limit_ms:,.0f}", *told, f"{limit_ms / medians['phiedge']:.0%}"))
    return rows


def _full_export(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    phases, limits = results["phases_s"], results["limits_s"]
    read, written = (statistics.mean(results[f"disk_{way}_gbps"]) for way in ("read", "write"))
    source, bundle = (results[f"{name}_bytes"] / 1e9 for name in ("source", "bundle"))
    return [
        ("what", "measured", "wanted"),
        (f"the whole process, `--target {settings['target']}`", f"{results['wall_s']} s", ""),
        ("of that imports, and the trace of both graphs", f"{results['import_s']} s, {phases['trace']} s", "≤ 60 s"),
        ("of that the weights", f"{phases['write weights']} s", ""),
        ("processor time, user and system", f"{results['cpu_user_s']} s, {results['cpu_system_s']} s", ""),
        ("peak resident memory, torch included", f"{results['peak_rss_bytes'] / 2**30:.2f} GiB", "≤ 2 GiB"),
        ("read, in one pass", f"{results['read_bytes'] / 1e9:.1f} GB of {source:.1f} GB", ""),
        ("written", f"{results['written_bytes'] / 1e9:.1f} GB for {bundle:.1f} GB", ""),
        (f"limit of the disk, {read:.2f} GB/s read and {written:.2f} GB/s written", f"{limits['disk_s']} s", ""),
        (
            f"limit of quantisation alone, {results['quantise_gweights_per_s']:.2f} billion weights/s",
            f"{limits['quantise_s']} s",
            "",
        ),
        ("over the larger limit", f"**{results['times_the_larger_limit']} times**", "≤ 1.5 times"),
    ]


def _decode_host(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [("reference bundle", "host µs per token, median", "p90", "engine ms per token", "wanted")]
    for name, figures in results.items():
        if isinstance(figures, dict):
            host = figures["host_us"]
            limit = "≤ 100 µs" if name == "greedy" else ""
            rows.append((name, f"{host['median']}", f"{host['p90']}", f"{figures['engine_ms']['median']}", limit))
    ratio = f"{results['largest_capacity_over_smallest']}"
    return [*rows, ("largest capacity over smallest", "", "", ratio, "≈ 1")]


def _side_by_side(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        (
            "engine",
            "workload",
            "prefill tokens/s",
            "decode ms/token, median",
            "p90",
            "MB per token",
            "share of bandwidth",
        )
    ]
    for engine, workloads in results["engines"].items():
        for workload, figures in workloads.items():
            step = figures["decode_ms_per_token"]
            moved = f"{figures['bytes_per_token'] / 1e6:.0f}"
            rate = f"{figures['prefill_tokens_per_s']:.1f}"
            share = f"{figures['share_of_bandwidth']:.0%}"
            rows.append((engine, workload, rate, f"{step['median']:.2f}", f"{step['p90']:.2f}", moved, share))
    for engine, workloads in results["times_faster_than_the_fastest_peer"].items():
        for workload, ratio in workloads.items():
            rows.append(
                (
                    f"{engine}, over the fastest peer",
                    workload,
                    f"{ratio['prefill']} times",
                    f"{ratio['decode']} times",
                    "",
                    "",
                    "",
                )
            )
    return rows


def _accuracy(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    tasks = list(next(iter(results.values()))["tasks"])
    rows: Rows = [("reference model", "overall, %", "chance, %", *tasks)]
    for name, score in results.items():
        shares = (score["overall"], score["chance"], *(score["tasks"][task] for task in tasks))
        rows.append((name, *(f"{100 * share:.1f}" for share in shares)))
    return rows


def _calibration(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        ("reference model", "accuracy, %", "KL from fp32, answers", "same next token, %", "KL, decoder alone, text")
    ]
    for label, told in results.items():
        beside, alone = told["beside fp32"], told.get("decoder alone", {}).get("text")
        rows.append(
            (
                label,
                f"{100 * told['overall']:.1f}",
                f"{beside['kl_mean']:.5f}",
                f"{100 * beside['top1_agreement']:.1f}",
                "" if alone is None else f"{alone['kl_mean']:.4f}",
            )
        )
    return rows


def _calibration_side_by_side(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [("method", "error, geometric mean", "seconds for all linears", "peak resident memory, MB")]
    for method, told in results.items():
        if method != "peak_rss_bytes":
            peak = f"{told['peak_rss_bytes'] / 1e6:.0f}" if "peak_rss_bytes" in told else ""
            rows.append((method, f"{told['geometric_mean']:.5f}", f"{told['seconds']:.1f}", peak))
    return rows


def _mixed(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        ("decoder's linears, MB", "of them wider", "KL from fp32, answers", "same next token, %", "KL, predicted, text")
    ]
    for told in results["sizes"]:
        beside = told["beside fp32"]
        rows.append(
            (
                f"{told['linears_bytes'] / 1e6:.3f}",
                str(told["wider"]),
                f"{beside['kl_mean']:.5f}",
                f"{100 * beside['top1_agreement']:.1f}",
                f"{told['kl_of_curve']:.4f}",
            )
        )
    return rows


def _calibrate_layer(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [("linear", "method", "error")]
    for linear in results["linears"]:
        rows += [(linear["linear"], method, f"{error:.5f}") for method, error in linear["errors"].items()]
    rows.append(("the layer", f"{settings['samples']} samples of {settings['rows']} rows", f"{results['seconds']} s"))
    if "seconds_at_128x512" in results:
        measured = settings["samples"] * settings["rows"] == 128 * 512
        told = f"40 layers, 128 samples of 512 rows: {'measured for one' if measured else 'projected'}"
        rows.append(("", told, f"{results['hours_for_40_layers_at_128x512']} h"))
        rows += [("", f"{name} loses less than rtn", f"{x:.1f} times") for name, x in results["beside_rtn"].items()]
    return [*rows, ("", "peak resident memory", f"{results['peak_rss_gib']:.2f} GiB")]


def _eight_bits(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    asked = next(iter(results.values()))["asked"]
    rows: Rows = [
        (f"reference model, {asked} questions", "accuracy, %", "of fp32's, %", "95 %", "lost, won", "KL, text"),
    ]
    for label, told in results.items():
        pair = told["beside fp32"]
        if "divergence" not in told:
            rows.append((label, f"{100 * told['overall']:.2f}", "100", "", "", ""))
            continue
        between = f"{100 * pair['of_it_low']:.2f} to {100 * pair['of_it_high']:.2f}"
        row = (label, f"{100 * told['overall']:.2f}", f"{100 * pair['of_it']:.2f}", between)
        rows.append((*row, f"{pair['lost']}, {pair['won']}", f"{told['divergence']['text']['kl_mean']:.5f}"))
    return rows


def _vision_precision(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    answers, times = results.get("answers", {}), results.get("time", {})
    asked = next((one["asked"] for one in answers.values()), 0)
    sizes = list(times)
    head = (f"vision encoder, {asked} questions", "accuracy, %", "lost, won", "features, squared error", "vision, MB")
    rows: Rows = [(*head, *(f"ms, {size} patches" for size in sizes))]
    for label, told in answers.items():
        beside, error = told["beside"], told["feature_error"]
        row = (label, f"{100 * told['overall']:.2f}", "" if beside is None else f"{beside['lost']}, {beside['won']}")
        row = (*row, "" if error is None else f"{error:.5f}", f"{told['vision_bytes'] / 1e6:.2f}")
        rows.append((*row, *(f"{times[size][label]['median']:.1f}" if label in times[size] else "" for size in sizes)))
    return rows


def _bundle_speed(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    def row(what: str, case: Mapping[str, Any], per_second: str) -> tuple[str, ...]:
        ms, limit = case["ms"], case["limit"]
        p99 = "" if ms["p99"] is None else f"{ms['p99']:.4g}"
        beside = ("", "") if limit is None else (f"{limit['limit_ms']:.4g}", f"{limit['share']:.0%}")
        return (what, f"{ms['p50']:.4g}", p99, f"{ms['most']:.4g}", *beside, per_second)

    setting, rates = results["setting"], results["rates"]
    opened = f"{setting['model']}, {setting['precision']}, {setting['backend']}, {setting['threads']} threads"
    rows: Rows = [(opened, "ms, median", "p99", "max", "limit", "reached", "per second")]
    rows += [
        row(f"{case['picture']}, {case['patches']} patches", case, f"{1000 / case['ms']['p50']:.3g}")
        for case in results["vision"]
    ]
    rows += [row(f"prefill {case['tokens']}", case, f"{case['tokens_per_s']:.4g}") for case in results["prefill"]]
    rows += [row(f"decode at {case['context']}", case, f"{case['tokens_per_s']:.3g}") for case in results["decode"]]
    if rates is not None:
        rows.append(("memory read, GB/s, best", f"{rates['read_gbps']['best']:.1f}", *[""] * 5))
        rows.append((f"{rates['float_type']}, GFLOP/s, best", f"{rates['float_gflops']['best']:.0f}", *[""] * 5))
        if rates["int8_gops"] is not None:
            rows.append(("int8, GOP/s, best", f"{rates['int8_gops']['best']:.0f}", *[""] * 5))
    return rows


def _tensorrt_build(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        (
            f"{settings['layers']} layers, a cache of {settings['context']}",
            "s",
            "of the processor, s",
            "peak, own pages, GB",
            "peak, with files, GB",
            "engine, MB",
            "its weights, MB",
            "kernels",
            "fused attentions",
            "activations, MB",
        )
    ]
    for name, found in results.items():
        profiles = found["profiles"]
        per_profile = (" / ".join(f"{profile[key]}" for profile in profiles) for key in ("kernels", "fused_attentions"))
        activations = " / ".join(f"{profile['activation_bytes'] / 1e6:.1f}" for profile in profiles)
        rows.append(
            (
                name,
                f"{found['wall_s']:.1f}",
                f"{found['cpu_s']:.1f}",
                *(f"{found[f'peak_{kind}_bytes'] / 1e9:.2f}" for kind in ("anonymous", "rss")),
                *(f"{found[key] / 1e6:,.1f}" for key in ("engine_bytes", "weights_bytes_in_engine")),
                *per_profile,
                activations,
            )
        )
    return rows


def _tensorrt_levers(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    plain = next(iter(results.values()))
    rows: Rows = [
        (f"{settings['layers']} layers", "peak, own pages, GB", "", "of the processor, s", "s", "engine, MB"),
    ]
    for name, found in results.items():
        peak = found["peak_anonymous_bytes"] / plain["peak_anonymous_bytes"] - 1
        rows.append(
            (
                name,
                f"{found['peak_anonymous_bytes'] / 1e9:.2f}",
                f"{round(100 * peak):+d} %" if found is not plain else "",
                f"{found['cpu_s']:.1f}",
                f"{found['wall_s']:.1f}",
                f"{found['engine_bytes'] / 1e6:,.1f}",
            )
        )
    return rows


_TABLES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Rows]] = {
    "reference-calibration-cpu": _calibration,
    "reference-calibration-rtx-4090": _calibration,
    "calibration-side-by-side": _calibration_side_by_side,
    "calibrate-layer-rtn": _calibrate_layer,
    "calibrate-layer-awq": _calibrate_layer,
    "calibrate-layer-gptq": _calibrate_layer,
    "calibrate-layer-auto": _calibrate_layer,
    "reference-mixed-cpu": _mixed,
    "reference-eight-bits": _eight_bits,
    "reference-vision-precision": _vision_precision,
    "reference-kv-cache": reference_kv_cache,
    "kv-cache": kv_cache,
    "ecosystem-checkpoints": ecosystem_checkpoints,
    "bandwidth": _bandwidth,
    "startup": _startup,
    "export-reference": _export,
    "export-full-size": _full_export,
    "vision-full-size": _vision,
    **{f"bundle-speed-{name}": _bundle_speed for name in BUNDLES},
    "reference-accuracy": _accuracy,
    "decode-host": _decode_host,
    "deadlines": deadlines,
    "deadlines-simulated": deadlines_simulated,
    "accuracy-by-deadline": accuracy_by_deadline,
    "accuracy-by-deadline-simulated": accuracy_by_deadline,
    "decode-jitter": jitter,
    "deadlines-beside-genai": beside_genai,
    "structured": structured,
    "reuse": reuse,
    "forms-by-deadline": forms_by_deadline,
    "peers-side-by-side": _side_by_side,
    "tensorrt-build": _tensorrt_build,
    "tensorrt-build-full-size": _tensorrt_build,
    "tensorrt-levers": _tensorrt_levers,
    "acceptance-verdicts": acceptance_verdicts,
    "plan-here": plan_here,
}


def page(text: str) -> str:
    """`text` with every part between `<!-- NAME -->` and `<!-- end -->` made anew."""
    for name in _TABLES:
        places = re.findall(rf"<!-- {name} -->\n.*?<!-- end -->", text, re.DOTALL)
        assert len(places) == 1, f"README.md has {len(places)} places for {name}"
        text = text.replace(places[0], f"<!-- {name} -->\n{_part(name)}<!-- end -->")
    return text


def _part(name: str) -> str:
    record = latest(name)
    if record is None:
        return "Not measured yet.\n"
    found, settings, machine = record["results"], record["settings"], record["machine"]
    header, *rows = _TABLES[name](found, settings)
    lines = [header, tuple("---" for _ in header), *rows]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    return f"{record['date']}, {_machine(machine)}:\n\n{table}"


def _machine(facts: Mapping[str, Any]) -> str:
    packages = facts["packages"]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB, Python {facts['python']}, "
        f"ONNX Runtime {packages['onnxruntime']}, load {facts['load_average_1m']} before the end"
    )


def _median(results: Mapping[str, Any], key: str) -> str:
    return f"{results[key]['median']}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
