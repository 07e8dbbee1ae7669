"""onnxruntime-genai, answering as `answering.py` says; runs in an environment of its own.

    python genai_worker.py MODEL_DIRECTORY MAX_LENGTH

A request is {"tokens": [...], "steps": n}; the reply has the time to the first token and of every step after it, in
nanoseconds, and the tokens. A step is what its public API offers: one call of `generate_next_token`.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import onnxruntime_genai as og


def answer(model, request, max_length):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=max_length, min_length=max_length, do_sample=False)
    generator = og.Generator(model, params)
    begun_ns = time.perf_counter_ns()
    generator.append_tokens(request["tokens"])
    generator.generate_next_token()
    first_ns = time.perf_counter_ns() - begun_ns
    steps_ns = []
    for _ in range(request["steps"]):
        begun_ns = time.perf_counter_ns()
        generator.generate_next_token()
        steps_ns.append(time.perf_counter_ns() - begun_ns)
    made = [int(token) for token in generator.get_sequence(0)[len(request["tokens"]) :]]
    return {"first_ns": first_ns, "steps_ns": steps_ns, "tokens": made}


def first_logits(model, tokens, max_length):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=max_length, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(tokens)
    return [float(value) for value in generator.get_logits().reshape(-1)]


def peak_rss_bytes():
    # Not getrusage: its maximum is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main():
    directory, max_length = sys.argv[1], int(sys.argv[2])
    begun_ns = time.perf_counter_ns()
    model = og.Model(directory)
    ready = {"load_ns": time.perf_counter_ns() - begun_ns, "version": metadata.version("onnxruntime-genai")}
    ready["onnxruntime"] = metadata.version("onnxruntime")
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "steps" in request:
            reply = answer(model, request, max_length)
        else:
            reply = {"logits": first_logits(model, request["tokens"], max_length)}
        reply["peak_rss_bytes"] = peak_rss_bytes()
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
