"""phiedge's decoder, answering the same lines of JSON as `genai_worker.py`, with the parts that a session is made of.

    python -m benchmarks.phiedge_worker CHECKPOINT GRAPHS MAX_CONTEXT THREADS CHUNK_TOKENS

The graphs are those of `write_graphs`; no tokenizer and no pictures are involved, on either side.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from benchmarks.decode_host import TimedRun
from benchmarks.machine import peak_rss_bytes
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

    def __init__(self, checkpoint: Path, graphs: Path, *, max_context: int, threads: int, chunk_tokens: int) -> None:
        facts = ModelConfig.from_dir(checkpoint).facts()
        self._engine = OrtDecoder(graphs / "decoder.ort.onnx", facts, threads=threads, capacity=max_context)
        self._cache = KVCache(max_context)
        self._engine._run = self._timed = TimedRun(self._engine._run)
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

    def answer(self, tokens, steps):
        begun_ns = time.perf_counter_ns()
        token = self._sampler.choose(self.prefill(tokens))
        first_ns = time.perf_counter_ns() - begun_ns
        made, steps_ns, host_ns = [token], [], []
        for _ in range(steps):
            inside_ns = self._timed.spent_ns
            begun_ns = time.perf_counter_ns()
            token = self._sampler.choose(self.step(token))
            steps_ns.append(time.perf_counter_ns() - begun_ns)
            host_ns.append(steps_ns[-1] - (self._timed.spent_ns - inside_ns))
            made.append(token)
        tokens_made = [int(token) for token in made]
        return {"first_ns": first_ns, "steps_ns": steps_ns, "host_ns": host_ns, "tokens": tokens_made}


def main() -> None:
    checkpoint, graphs = Path(sys.argv[1]), Path(sys.argv[2])
    max_context, threads, chunk_tokens = (int(word) for word in sys.argv[3:6])
    begun_ns = time.perf_counter_ns()
    decoder = Decoder(checkpoint, graphs, max_context=max_context, threads=threads, chunk_tokens=chunk_tokens)
    print(json.dumps({"load_ns": time.perf_counter_ns() - begun_ns, "version": __version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "steps" in request:
            reply = decoder.answer(request["tokens"], request["steps"])
        else:
            reply = {"logits": decoder.prefill(request["tokens"]).tolist()}
        reply["peak_rss_bytes"] = peak_rss_bytes()
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
