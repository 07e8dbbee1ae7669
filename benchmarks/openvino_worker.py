"""OpenVINO as a model converted for it runs: stateful, with its own defaults; answering as `answering.py` says.

    python -m benchmarks.openvino_worker CHECKPOINT GRAPHS MAX_CONTEXT THREADS

The weights are phiedge's, in groups of 128, which is also what OpenVINO's own tools make. The whole prompt is one run.
"""

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.answering import serve
from phiedge.engines.openvino import graph
from phiedge.engines.openvino.library import op, ov
from phiedge.engines.openvino.weights import read_weights
from phiedge.exporters.config import ModelConfig


class StatefulGraph(graph.DecoderGraph):
    """The decoder with its cache inside, in the form that OpenVINO fuses with attention."""

    def model(self):
        inputs, last = self._inputs(), self._facts.num_layers - 1
        x = inputs.rows
        for layer in range(self._facts.num_layers):
            x = self._layer(layer, x, inputs, last_row_only=layer == last)
        logits = self._linear(self._norm(x, "model.norm.weight"), "lm_head.weight", bits=8)
        logits.output(0).set_names({graph.LOGITS})
        ports = [inputs.rows, inputs.positions, inputs.beam]
        return ov.Model([op.result(logits)], self._states, ports, "decoder")

    def _attend(self, query, key, value, inputs):
        return op.scaled_dot_product_attention(query, self._shared(key), self._shared(value), causal=True)

    def _shared(self, cached):
        facts = self._facts
        ones = np.ones((1, 1, facts.num_heads // facts.num_kv_heads, 1, 1), np.float32)
        repeated = op.multiply(op.unsqueeze(cached, graph._whole(2)), op.constant(ones))
        return op.reshape(repeated, graph._whole([0, facts.num_heads, -1, facts.head_dim]), True)


class Decoder:
    """One sequence; the tokens of a prompt at once."""

    def __init__(self, checkpoint, graphs, *, threads):
        facts = ModelConfig.from_dir(checkpoint).facts()
        table = np.memmap(graphs / "embed_tokens.bin", "<u2", "r")
        self._table = table.reshape(facts.vocab_size, facts.hidden_size)
        self._graph = StatefulGraph(read_weights(graphs / "decoder.ort.onnx"), facts)
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._request = ov.Core().compile_model(self._graph.model(), "CPU", options).create_infer_request()
        self._request.set_tensor("beam_idx", ov.Tensor(np.zeros(1, np.int32)))
        self._length = 0

    def prefill(self, tokens):
        self._request.reset_state()
        self._length = 0
        return self._run(tokens)

    def step(self, token):
        return self._run([token])

    def _run(self, tokens):
        rows = (self._table[tokens].astype(np.uint32) << 16).view(np.float32)
        positions = np.arange(self._length, self._length + len(tokens), dtype=np.int64)
        self._request.set_tensor(graph.EMBEDDINGS, ov.Tensor(rows[None]))
        self._request.set_tensor(graph.POSITIONS, ov.Tensor(positions[None]))
        self._request.infer()
        self._length += len(tokens)
        return self._request.get_tensor(graph.LOGITS).data.reshape(-1)


def main():
    begun_ns = time.perf_counter_ns()
    decoder = Decoder(Path(sys.argv[1]), Path(sys.argv[2]), threads=int(sys.argv[4]))
    serve(decoder, {"load_ns": time.perf_counter_ns() - begun_ns, "version": ov.__version__.partition("-")[0]})


if __name__ == "__main__":
    main()
