"""The oracle as a bundle whose cache is int8, with scales from what a float cache holds after some rows."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from phiedge.bundle import Bundle, BundleWriter
from phiedge.bundle.graph_file import read_graph
from phiedge.calibration.int4 import RoundToNearest
from phiedge.calibration.kv_scales import CacheStatistics, graph_scales
from phiedge.calibration.statistics import RowRoles
from phiedge.engines.onnxruntime.cache_scales import ENDS
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import FP32

ROWS = 48
_CAPACITY = 1024


def random_rows(hidden_size: int, count: int = ROWS) -> np.ndarray:
    """Some of the rows that the scales are found with."""
    return np.random.default_rng(0).normal(size=(count, hidden_size)).astype(np.float32)


def scales_in_graph(bundle: Bundle) -> CacheScales:
    """What the file of the decoder's weights holds."""
    graph = bundle.file("decoder.ort.onnx")
    found = []
    for weight in read_graph(graph).weights:
        if weight.name.endswith(ENDS):
            data = (bundle.path / str(weight.file)).read_bytes()
            found.append(np.frombuffer(data, "<f4", weight.size_bytes // 4, weight.offset))
    return CacheScales(layers=list(zip(found[::2], found[1::2], strict=True)))


def _scales(bundle: Bundle, sequences: Iterable[np.ndarray]) -> CacheScales:
    """Scales for what a float cache holds after each of `sequences`."""
    facts = bundle.manifest.facts
    decoder = OrtDecoder(bundle.file("decoder.ort.onnx"), facts, threads=1, capacity=_CAPACITY)
    seen = [CacheStatistics(layer=layer) for layer in range(facts.num_layers)]
    for number, rows in enumerate(sequences):
        decoder.prefill(rows, past=0)
        places = torch.arange(len(rows))
        roles = RowRoles(weights=torch.ones(len(rows)), searched=places, held=places[:0])
        for layer, sides in zip(seen, decoder._cache.layers(), strict=True):
            key, value = (torch.from_numpy(side[0, :, : len(rows)].copy()) for side in sides)
            layer.add(key, value, roles, sample=f"sequence {number}")
    return graph_scales(tuple(layer.scales() for layer in seen))


def with_int8_cache(
    bundle: Bundle, checkpoint: Checkpoint, sequences: Iterable[np.ndarray], destination: Path
) -> Bundle:
    """Write `bundle` (the oracle at fp32) again, with a cache in int8 for rows like `sequences`."""
    plan = replace(FP32, cache="int8")
    with BundleWriter(destination) as writer:
        written = write_graphs(
            checkpoint,
            precision=plan,
            max_context=bundle.manifest.max_context,
            out_dir=writer.path,
            quantiser=RoundToNearest(),
            cache_scales=_scales(bundle, sequences),
        )
        for name in ("tokenizer.json", "chat_template.jinja"):
            shutil.copyfile(bundle.path / name, writer.path / name)
        embed_tokens = written.embed_tokens.dtype
        return writer.commit(
            replace(
                bundle.manifest,
                precision=plan.record(embed_tokens=embed_tokens),
                dialects=written.dialects,
                files={},
            )
        )
