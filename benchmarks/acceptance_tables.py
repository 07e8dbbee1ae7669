"""The tables of acceptance tests and of plans against measurements, for `tables.py`."""

from collections.abc import Mapping
from typing import Any

Rows = list[tuple[str, ...]]


def acceptance_verdicts(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """What had to come, what came, and what it took."""
    rows: Rows = [("must be", "limit, of the median", "came", "exit code", "requests", "seconds", "noted")]
    for wanted, factor, *_ in settings["cases"]:
        found = results[wanted]
        numbers = (f"{found['exit_code']}", f"{found['requests']:,}", f"{found['seconds']:.0f}")
        rows.append((wanted, f"{factor:g}", found["came"], *numbers, "; ".join(found["notes"])))
    return rows


def plan_here(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """Each time that was measured beside its plan, model by model."""
    rows: Rows = [("model", "", "planned, ms", "expected, ms", "measured, ms", "off")]
    for name, found in results.items():
        for row in found["rows"]:
            low, high = row["expected_ms"]
            times = (f"{row['planned_ms']:,.4g}", f"{low:,.4g} to {high:,.4g}", f"{row['measured_ms']:,.4g}")
            rows.append((name, f"{row['what']}, {row['size']}", *times, f"{100 * row['off']:+.0f} %"))
        fit = found["profile_fit"]
        if fit is not None:
            told = f"{100 * fit['median_error']:.1f} %"
            rows.append((name, f"{fit['requests']} whole requests by a profile, median", "", "", "", told))
    return rows
