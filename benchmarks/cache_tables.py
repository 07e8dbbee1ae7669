"""The tables of what a cache in 8 bits gives and costs, for `tables.py`."""

from collections.abc import Mapping
from typing import Any

Rows = list[tuple[str, ...]]


def kv_cache(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """A step and a chunk at every context, with either cache, and what memory allows a step at best."""
    names = list(results["capacity_bytes"])
    head = [f"{name}: {told}" for name in names for told in ("token, ms", "limit, ms", "chunk, ms")]
    rows: Rows = [(f"after, of {settings['layers']} layers", *head, "token, ratio", "chunk, ratio")]
    for context, found in results["contexts"].items():
        cells = []
        for name in names:
            of_cache = found[name]
            step, chunk = (of_cache[kind]["median"] for kind in ("step_ms", "chunk_ms"))
            cells += [f"{step:.1f}", f"{of_cache['limit_ms']:.1f}", f"{chunk:,.0f}"]
        ratios = (found[names[1]][kind]["median"] / found[names[0]][kind]["median"] for kind in ("step_ms", "chunk_ms"))
        rows.append((f"{context} positions", *cells, *(f"{ratio:.2f}" for ratio in ratios)))
    blank = ("",) * (len(rows[0]) - 1)
    cache = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in results["capacity_bytes"].items())
    peaks = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in results["peak_rss_bytes"].items())
    most = max(map(int, results["contexts"]))
    told = (
        f"cache of {most} positions: {cache}",
        f"peak resident memory with it: {peaks}",
        f"read bandwidth meanwhile: {results['read_gbps']:.1f} GB/s",
    )
    return [*rows, *((line, *blank) for line in told)]


def reference_kv_cache(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """Accuracy with either cache, and how far apart the logits are."""
    rows: Rows = [
        (
            f"reference model, {6 * settings['per_task']} questions",
            "float cache, %",
            "int8 cache, %",
            "of it, %",
            "KL, mean",
            "same next token, %",
            "logits, relative error",
        )
    ]
    for precision, found in results.items():
        accuracy, logits = found["accuracy"], found["logits"]
        rows.append(
            (
                precision,
                f"{100 * accuracy['float']['overall']:.1f}",
                f"{100 * accuracy['int8']['overall']:.1f}",
                f"{100 * found['of_float']:.1f}",
                f"{logits['kl_mean']:.5f}",
                f"{100 * logits['top1_agreement']:.1f}",
                f"{logits['relative_error']:.4f}",
            )
        )
    return rows
