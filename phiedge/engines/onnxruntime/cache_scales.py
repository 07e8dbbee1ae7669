"""The scales of a cache in int8, held against each other before a graph is opened: manifest, graph and report.

ONNX Runtime would compute with any of them: with a scale that is no number it gives logits that are none, and with
another model's it gives answers that are merely bad.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from phiedge.bundle import Bundle, Dialect
from phiedge.bundle.graph_file import Weight, read_graph
from phiedge.errors import BundleError

ENDS = (".self_attn.k_scale", ".self_attn.v_scale")
_REMEDY = "copy or export the bundle again; `phiedge verify` says whether its bytes are as they were written"


def check_cache_scales(bundle: Bundle, dialect: Dialect) -> None:
    """Raises `BundleError` where the graph's scales do not go with the manifest, with the report, or are no scales."""
    graph = bundle.file(dialect.decoder)
    manifest = bundle.manifest
    wanted = 0 if manifest.precision.cache is None else 2 * manifest.facts.num_layers
    scales = [weight for weight in read_graph(graph).weights if weight.name.endswith(ENDS)]
    if len(scales) != wanted:
        raise BundleError(
            f"{graph} has {len(scales)} scales of keys and values; for a cache of "
            f"{manifest.precision.cache or dialect.activations}, which the manifest has, there are {wanted}",
            remedy=_REMEDY,
        )
    if not scales:
        return
    told = hashlib.sha256()
    for weight in scales:
        told.update(_values(graph, weight))
    found, reported = told.hexdigest(), _reported(bundle)
    if reported is not None and found != reported:
        raise BundleError(
            f"{graph} and {manifest.quantization} disagree about the scales of keys and values: "
            f"sha256 {found[:12]} in the one, {reported[:12]} in the other",
            remedy=_REMEDY,
        )


def _values(graph: Path, weight: Weight) -> bytes:
    source = graph if weight.file is None else graph.with_name(weight.file)
    if weight.file is None or weight.dtype != "float32":
        raise BundleError(f"{graph}: {weight.name} is no float32 beside the graph", remedy=_REMEDY)
    with source.open("rb") as file:
        file.seek(weight.offset)
        read = file.read(weight.size_bytes)
    values = np.frombuffer(read, "<f4") if len(read) == weight.size_bytes else np.empty(0, np.float32)
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise BundleError(f"{graph}: {weight.name} has values that are no scales", remedy=_REMEDY)
    return read


def _reported(bundle: Bundle) -> str | None:
    """What the report says of the graph's scales; None before there is a report."""
    name = bundle.manifest.quantization
    if name is None:
        return None
    try:
        report: Any = json.loads(bundle.file(name).read_bytes())
        return str(report["kv_cache"]["graph_sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(
            f"{bundle.path}/{name} does not say which scales keys and values have: {error!r}", remedy=_REMEDY
        ) from error
