"""The oracle as a bundle whose cache is int8, with scales from what a float cache holds after some rows."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from phiedge.bundle import Bundle, BundleWriter
from phiedge.calibration.int4 import RoundToNearest
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import FP32

ROWS = 48


def random_rows(hidden_size: int, count: int = ROWS) -> np.ndarray:
    """The rows that the scales are found with."""
    return np.random.default_rng(0).normal(size=(count, hidden_size)).astype(np.float32)


def with_int8_cache(bundle: Bundle, checkpoint: Checkpoint, destination: Path) -> Bundle:
    """Write `bundle` (the oracle at fp32) again, with a cache in int8."""
    facts = bundle.manifest.facts
    decoder = OrtDecoder(bundle.file("decoder.ort.onnx"), facts, threads=1, capacity=ROWS)
    decoder.prefill(random_rows(facts.hidden_size), past=0)
    largest = [
        tuple(np.abs(side[0]).max(axis=1).flatten().astype(np.float32) / 127 for side in pair)
        for pair in decoder._cache.layers()
    ]
    plan = replace(FP32, cache="int8")
    with BundleWriter(destination) as writer:
        written = write_graphs(
            checkpoint,
            precision=plan,
            max_context=bundle.manifest.max_context,
            out_dir=writer.path,
            quantiser=RoundToNearest(),
            cache_scales=CacheScales(layers=largest),
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
