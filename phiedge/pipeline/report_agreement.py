"""Does the report of a bundle tell of the weights that are in it? The manifest knows that neither was changed alone.

The report has a hash of every quantised tensor, codes first and scales behind them; the graphs know where those lie.
Both are compared, and what the report says of bits, groups and shapes with what the graphs say.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiedge.bundle import Bundle, Precision, Problem
from phiedge.bundle.graph_file import Weight, read_graph
from phiedge.bundle.manifest import VISION_EIGHT_BITS
from phiedge.exporters.tensors import vision_tensor
from phiedge.pipeline.inspection.quantisation import read_quantisation
from phiedge.progress import Progress, silent

_CODES = re.compile(r"(?P<tensor>.+)\.(?P<stored>int4|int8|float8)$")
_SCALES = ".scales"
_BITS = {"int4": 4, "int8": 8, "float8": 8}
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A quantised tensor as a graph reads it: its codes, and a scale for each row and group."""

    bits: int
    codes: Weight
    scales: Weight

    @property
    def groups(self) -> int:
        """In a row."""
        return self.scales.shape[1] if len(self.scales.shape) == 2 else 1


def check_report(bundle: Bundle, progress: Progress = silent) -> list[Problem]:
    """What the report of `bundle` says otherwise than its weights; nothing for a bundle without a report.

    Raises `BundleError` for a report or a graph that cannot be read.
    """
    name = bundle.manifest.quantization
    if name is None or read_quantisation(bundle) is None:
        return []
    report = json.loads(bundle.file(name).read_bytes())
    stored = _stored_tensors(bundle)
    rows = {str(row["name"]): row for row in report["tensors"]}
    told = [*_about_precision(bundle, report)]
    told += [f"{tensor} is quantised, and the report has no row for it" for tensor in stored if tensor not in rows]
    told += [f"{tensor} has a row in the report, and is not quantised" for tensor in rows if tensor not in stored]
    both = [tensor for tensor in rows if tensor in stored]
    size_bytes = sum(stored[tensor].codes.size_bytes + stored[tensor].scales.size_bytes for tensor in both)
    with progress.task("compare weights with the report", size_bytes, "B") as advance:
        for tensor in both:
            found = stored[tensor]
            told += [f"{tensor}: {said}" for said in _about_tensor(bundle.path, rows[tensor], found)]
            advance(found.codes.size_bytes + found.scales.size_bytes)
    return [Problem(path=name, kind="disagrees", detail=said) for said in told]


def _stored_tensors(bundle: Bundle) -> dict[str, _Stored]:
    """By the checkpoint's name; dialects share the bytes, so that the first that has a tensor speaks for all."""
    found: dict[str, _Stored] = {}
    for dialect in bundle.manifest.dialects.values():
        for name, stored in _stored_in(bundle.file(dialect.vision)):
            found.setdefault(vision_tensor(name), stored)
        for name, stored in _stored_in(bundle.file(dialect.decoder)):
            found.setdefault(name, stored)
    return found


def _stored_in(graph: Path) -> Iterator[tuple[str, _Stored]]:
    """The quantised tensors of a graph, by its own names."""
    weights = {weight.name: weight for weight in read_graph(graph).weights}
    for name, codes in weights.items():
        match = _CODES.fullmatch(name)
        scales = weights.get(match["tensor"] + _SCALES) if match else None
        if match and scales is not None and codes.file is not None:
            yield match["tensor"], _Stored(bits=_BITS[match["stored"]], codes=codes, scales=scales)


def _about_precision(bundle: Bundle, report: Mapping[str, Any]) -> Iterator[str]:
    manifest = bundle.manifest.precision
    for key, said, wanted in (
        ("precision", report.get("precision"), manifest.name),
        ("group_size", report.get("group_size"), manifest.group_size),
        ("vision", (report.get("vision") or {}).get("stored_as"), _vision(manifest)),
    ):
        if said != wanted:
            yield f"{key} is {said} in the report, {wanted} in the manifest"


def _vision(precision: Precision) -> str | None:
    return precision.vision if precision.vision in VISION_EIGHT_BITS else None


def _about_tensor(directory: Path, row: Mapping[str, Any], stored: _Stored) -> Iterator[str]:
    rows, columns = _shape(row)
    if row.get("bits") != stored.bits:
        yield f"{row.get('bits')} bits in the report, {stored.bits} in the graph"
    if rows != stored.scales.shape[0] or columns != row.get("group_size", 0) * stored.groups:
        yield (
            f"[{rows}, {columns}] in groups of {row.get('group_size')} in the report, "
            f"{stored.scales.shape[0]} rows of {stored.groups} groups in the graph"
        )
    wanted, found = str(row.get("sha256")), _hash(directory, (stored.codes, stored.scales))
    if wanted != found:
        yield f"codes and scales are sha256 {found[:12]}, the report is about {wanted[:12]}"


def _shape(row: Mapping[str, Any]) -> tuple[int, int]:
    shape = row.get("shape")
    return (shape[0], shape[1]) if isinstance(shape, list) and len(shape) == 2 else (0, 0)


def _hash(directory: Path, weights: Sequence[Weight]) -> str:
    digest = hashlib.sha256()
    for weight in weights:
        assert weight.file is not None, weight.name
        with (directory / weight.file).open("rb") as file:
            file.seek(weight.offset)
            left = weight.size_bytes
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
    return digest.hexdigest()
