"""phiedge's decoder, answering as `answering.py` says, with the parts that a session is made of.

    python -m benchmarks.phiedge_worker CHECKPOINT GRAPHS MAX_CONTEXT THREADS CHUNK_TOKENS BACKEND GROUP_SIZE

The graphs are those of `write_graphs`; no tokenizer and no pictures are involved, on either side.
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

from benchmarks.answering import serve
from phiedge import __version__
from phiedge.bundle import Table
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.exporters.config import ModelConfig
from phiedge.runtime.embeddings import EmbeddingTable
from phiedge.runtime.kv_cache import KVCache
from phiedge.runtime.sampling import Sampler, Sampling


class Decoder:
    """Prefill and greedy steps of a session, without its prompt and its pictures."""

    def __init__(self, facts, graphs: Path, engine, *, max_context: int, chunk_tokens: int) -> None:
        self._engine = engine
        self._cache = KVCache(max_context)
        self._chunk_tokens = chunk_tokens
        self._rows = aligned_zeros((max_context, facts.hidden_size), self._engine.input_dtype)
        table = Table(file="embed_tokens.bin", dtype="bfloat16", shape=(facts.vocab_size, facts.hidden_size))
        # The embedding table is all of a bundle that this needs.
        manifest = SimpleNamespace(embed_tokens=table)
        self._embeddings = EmbeddingTable(SimpleNamespace(manifest=manifest, file=lambda name: graphs / name))
        self._next_row = self._embeddings.writer(self._engine.row)
        self._sampler = Sampler(facts.vocab_size)

    def prefill(self, tokens):
        """The logits after `tokens`, in an emptied cache."""
        rows = self._rows[: len(tokens)]
        self._embeddings.copy_rows(tuple(tokens), rows)
        self._cache.clear()
        self._sampler.start(Sampling())
        for start in range(0, len(tokens), self._chunk_tokens):
            chunk = rows[start : start + self._chunk_tokens]
            logits = self._engine.prefill(chunk, past=start)
            self._cache.commit(len(chunk))
        return logits

    def step(self, token):
        """The logits after one more token."""
        self._next_row.write(token)
        logits = self._engine.step(past=self._cache.length)
        self._cache.commit(1)
        return logits

    def choose(self, logits):
        return self._sampler.choose(logits)

    @property
    def run_ns(self):
        return self._engine.run_ns


def open_engine(backend: str, path: Path, facts, *, group_size: int, threads: int, max_context: int):
    if backend == "onnxruntime":
        return OrtDecoder(path, facts, threads=threads, capacity=max_context)
    from phiedge.engines.openvino.decoder import OpenVinoDecoder

    return OpenVinoDecoder(path, facts, group_size=group_size, threads=threads, capacity=max_context)


def main() -> None:
    checkpoint, graphs, backend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[6]
    max_context, threads, chunk_tokens, group_size = (int(sys.argv[place]) for place in (3, 4, 5, 7))
    begun_ns = time.perf_counter_ns()
    facts = ModelConfig.from_dir(checkpoint).facts()
    path = graphs / "decoder.ort.onnx"
    engine = open_engine(backend, path, facts, group_size=group_size, threads=threads, max_context=max_context)
    decoder = Decoder(facts, graphs, engine, max_context=max_context, chunk_tokens=chunk_tokens)
    serve(decoder, {"load_ns": time.perf_counter_ns() - begun_ns, "version": __version__})


if __name__ == "__main__":
    main()
