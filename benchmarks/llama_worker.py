"""llama.cpp through llama-cpp-python's low-level interface, answering as `answering.py` says.

    python llama_worker.py GGUF MAX_CONTEXT THREADS

Its own defaults, but for the number of threads: 16-bit cache, weights repacked for the processor, 512 rows to a batch.
"""

import sys
import time

import llama_cpp as lib
import numpy as np
from answering import serve


class Decoder:
    """One sequence; the tokens of a prompt at once."""

    def __init__(self, path, *, max_context, threads):
        lib.llama_backend_init()
        lib.llama_log_set(_QUIET, None)
        self._model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        options = lib.llama_context_default_params()
        options.n_ctx, options.n_batch = max_context, max_context
        options.n_threads = options.n_threads_batch = threads
        self._context = lib.llama_init_from_model(self._model, options)
        self._memory = lib.llama_get_memory(self._context)
        self._vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._batch = lib.llama_batch_init(max_context, 0, 1)
        self._length = 0

    def prefill(self, tokens):
        lib.llama_memory_clear(self._memory, False)
        self._length = 0
        return self._run(tokens)

    def step(self, token):
        return self._run([token])

    def _run(self, tokens):
        batch, count = self._batch, len(tokens)
        batch.n_tokens = count
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, self._length + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place == count - 1
        if lib.llama_decode(self._context, batch) != 0:
            raise SystemExit("llama_decode failed")
        self._length += count
        logits = lib.llama_get_logits_ith(self._context, count - 1)
        return np.ctypeslib.as_array(logits, (self._vocab,))


_QUIET = lib.llama_log_callback(lambda level, text, data: None)


def main():
    begun_ns = time.perf_counter_ns()
    decoder = Decoder(sys.argv[1], max_context=int(sys.argv[2]), threads=int(sys.argv[3]))
    serve(decoder, {"load_ns": time.perf_counter_ns() - begun_ns, "version": lib.__version__})


if __name__ == "__main__":
    main()
