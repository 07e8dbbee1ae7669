"""onnxruntime-genai, answering in JSON by a schema until a deadline; runs in an environment of its own.

    python genai_form_worker.py MODEL_DIRECTORY

A request is {"tokens": [...], "schema": {...}, "most": n, "deadline_ms": x or null}; the reply has the text, the time
and the tokens. Its own means against a deadline are a most of tokens and not beginning another one.
"""

import json
import sys
import time

import onnxruntime_genai as og


def answer(model, tokenizer, request):
    begun_ns = time.perf_counter_ns()
    tokens, deadline_ms = request["tokens"], request["deadline_ms"]
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(tokens) + request["most"], do_sample=False)
    params.set_guidance("json_schema", json.dumps(request["schema"]))
    generator = og.Generator(model, params)
    generator.append_tokens(tokens)
    first_ms, longest_ms = 0.0, 0.0
    while not generator.is_done():
        now_ms = (time.perf_counter_ns() - begun_ns) / 1e6
        if deadline_ms is not None and now_ms + longest_ms > deadline_ms:
            break
        generator.generate_next_token()
        spent_ms = (time.perf_counter_ns() - begun_ns) / 1e6
        if first_ms:
            longest_ms = max(longest_ms, spent_ms - now_ms)
        first_ms = first_ms or spent_ms
    made = [int(token) for token in generator.get_sequence(0)[len(tokens) :]]
    total_ms = (time.perf_counter_ns() - begun_ns) / 1e6
    return {"text": tokenizer.decode(made), "tokens": len(made), "first_ms": first_ms, "total_ms": total_ms}


def main():
    model = og.Model(sys.argv[1])
    tokenizer = og.Tokenizer(model)
    print(json.dumps({"version": og.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, tokenizer, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
