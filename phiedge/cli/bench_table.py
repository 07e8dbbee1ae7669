"""A benchmark as people read it: one table of times beside their limits, and what they were measured with."""

import shutil
import textwrap
from typing import TYPE_CHECKING

from phiedge.cli.console import show_table

if TYPE_CHECKING:
    from phiedge.runtime.bench import BenchReport
    from phiedge.runtime.bench.report import Beside
    from phiedge.runtime.bench.spread import Spread

_COLUMNS = ("milliseconds", "n", "p50", "p99", "max", "limit", "reached", "per_s", "limited by")


def show_report(report: "BenchReport") -> None:
    """Print all of it on stdout."""
    setting, host = report.setting, report.host
    groups = f", groups of {setting.group_size}" if setting.group_size else ""
    print(f"{setting.model}, {setting.precision}{groups}, on {setting.backend} with {setting.threads} threads")
    print(f"{host.cpu}, {host.cores} cores, {host.memory_bytes / 2**30:.0f} GiB; load average {host.load_average_1m:g}")
    print()
    show_table(None, _COLUMNS, _rows(report), right="n p50 p99 max limit reached per_s")
    print()
    show_table(None, ("", "", ""), _circumstances(report))
    if report.notes:
        print()
    for note in report.notes:
        _say(note)


def _rows(report: "BenchReport") -> list[tuple[str, ...]]:
    rows = [
        _row(f"vision {case.picture}, {case.patches} patches", case.ms, case.limit, 1000 / case.ms.p50)
        for case in report.vision
    ]
    rows += [_row(f"prefill {case.tokens} tokens", case.ms, case.limit, case.tokens_per_s) for case in report.prefill]
    if report.first_token is not None:
        first = report.first_token
        picture = f", {first.picture}" if first.picture else ""
        rows.append(_row(f"first token, {first.tokens} tokens{picture}", first.ms, first.limit, None))
    rows += [_row(f"decode at {case.context}", case.ms, case.limit, case.tokens_per_s) for case in report.decode]
    return rows


def _row(name: str, ms: "Spread", limit: "Beside | None", per_second: float | None) -> tuple[str, ...]:
    return (
        name,
        str(ms.count),
        _ms(ms.p50),
        "-" if ms.p99 is None else _ms(ms.p99),
        _ms(ms.most),
        "-" if limit is None else _ms(limit.limit_ms),
        "-" if limit is None else f"{limit.share:.0%}",
        "" if per_second is None else f"{per_second:,.1f}",
        "" if limit is None else limit.bound,
    )


def _ms(value: float) -> str:
    """Three digits or more, none of them noise."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _circumstances(report: "BenchReport") -> list[tuple[str, str, str]]:
    memory, setting, rates = report.memory, report.setting, report.rates
    own, files = memory.anonymous_bytes / 1e6, memory.file_bytes / 1e6
    peak = "" if memory.peak_bytes is None else f"{memory.peak_bytes / 1e6:,.0f} MB at the most"
    rows = [
        ("load", f"{report.load_ms:,.0f} ms", f"cache for {setting.max_context} positions"),
        (
            "memory",
            f"{own + files:,.0f} MB",
            f"{own:,.0f} MB of its own, {files:,.0f} MB of files; {peak}".rstrip("; "),
        ),
        ("weights", f"{setting.weights_bytes / 1e6:,.1f} MB", "read for every token, and for every chunk of a prompt"),
    ]
    if rates is not None:
        rows += [
            ("reading", f"{rates.read_gbps.best:,.1f} GB/s", f"{rates.read_gbps.median:,.1f} in the median"),
            (
                rates.float_type,
                f"{rates.float_gflops.best:,.0f} GFLOP/s",
                f"{rates.float_gflops.median:,.0f} in the median",
            ),
        ]
        if rates.int8_gops is not None:
            rows.append(("int8", f"{rates.int8_gops.best:,.0f} GOP/s", f"{rates.int8_gops.median:,.0f} in the median"))
    for decode in report.decode[:1]:
        host = decode.host_us
        tail = "" if host.p99 is None else f", p99 {host.p99:,.0f} µs"
        rows.append(("host", f"{host.p50:,.0f} µs", f"of a token outside the engine{tail}, max {host.most:,.0f} µs"))
    if report.decode:
        taken = sum(case.disturbance.involuntary_switches for case in report.decode)
        mapped = sum(case.disturbance.minor_faults for case in report.decode)
        rows.append(("decode", f"{taken} times", f"a core was taken away; {mapped} pages were mapped"))
    return rows


def _say(text: str) -> None:
    width = shutil.get_terminal_size((120, 24)).columns
    print(textwrap.fill(f"note: {text}", width=width, subsequent_indent="      ", break_long_words=False))
