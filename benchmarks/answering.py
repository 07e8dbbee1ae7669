"""What the workers of `peers_side_by_side` have in common: one line of JSON in, one line of JSON out.

A request is {"tokens": [...], "steps": n}; the reply has the time to the first token and of every step after it, in
nanoseconds, and the tokens. Without "steps" the reply has the logits after the tokens.
"""

import json
import sys
import time
from pathlib import Path


def serve(decoder, ready):
    """Answer with `decoder.prefill(tokens)` and `decoder.step(token)`, which return logits; until there is no input.

    `decoder.run_ns`, where it has one, is how long its library ran in the last step.
    """
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "steps" in request:
            reply = answer(decoder, request["tokens"], request["steps"])
        else:
            reply = {"logits": decoder.prefill(request["tokens"]).tolist()}
        reply["peak_rss_bytes"] = peak_rss_bytes()
        print(json.dumps(reply), flush=True)


def answer(decoder, tokens, steps):
    choose = getattr(decoder, "choose", None) or (lambda logits: int(logits.argmax()))
    begun_ns = time.perf_counter_ns()
    token = choose(decoder.prefill(tokens))
    first_ns = time.perf_counter_ns() - begun_ns
    made, steps_ns, host_ns = [token], [], []
    for _ in range(steps):
        begun_ns = time.perf_counter_ns()
        token = choose(decoder.step(token))
        steps_ns.append(time.perf_counter_ns() - begun_ns)
        host_ns.append(steps_ns[-1] - getattr(decoder, "run_ns", steps_ns[-1]))
        made.append(token)
    reply = {"first_ns": first_ns, "steps_ns": steps_ns, "tokens": [int(token) for token in made]}
    return reply | ({"host_ns": host_ns} if hasattr(decoder, "run_ns") else {})


def peak_rss_bytes():
    # Not getrusage: its maximum is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
