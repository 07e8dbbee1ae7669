"""onnxruntime-genai by a deadline, with the means that it has; runs in an environment of its own.

    python genai_deadline_worker.py MODEL_DIRECTORY MAX_LENGTH

A request is {"tokens": [...], "most": n or null, "terminate_ms": t or null}: at most n tokens, and a session that is
told to terminate after t milliseconds. The reply has the tokens that were made, whether the answer ended by itself, and
the milliseconds until the end.
"""

import json
import sys
import threading
import time

import onnxruntime_genai as og


def answer(model, request, max_length):
    begun_ns = time.perf_counter_ns()
    tokens = request["tokens"]
    longest = max_length if request["most"] is None else min(max_length, len(tokens) + request["most"])
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=longest, do_sample=False)
    generator = og.Generator(model, params)
    timer, terminated = None, False
    if request["terminate_ms"] is not None:
        terminate = (generator.set_runtime_option, ("terminate_session", "1"))
        timer = threading.Timer(request["terminate_ms"] / 1e3, *terminate)
        timer.start()
    try:
        generator.append_tokens(tokens)
        while not generator.is_done():
            generator.generate_next_token()
    except RuntimeError:
        terminated = True  # what was made before is there
    finally:
        if timer is not None:
            timer.cancel()
    made = [int(token) for token in generator.get_sequence(0)[len(tokens) :]]
    ms = (time.perf_counter_ns() - begun_ns) / 1e6
    # The token that ends an answer is not in the sequence.
    ended = not terminated and len(tokens) + len(made) < longest
    return {"tokens": made, "ended": ended, "ms": ms}


def main():
    directory, max_length = sys.argv[1], int(sys.argv[2])
    model = og.Model(directory)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, json.loads(line), max_length) | {"peak_rss_bytes": 0}), flush=True)


if __name__ == "__main__":
    main()
