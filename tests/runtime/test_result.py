import json

from phiedge.runtime.budget import Budget
from phiedge.runtime.result import Result, Timings, TokenCounts


def test_a_result_becomes_plain_json_with_the_promised_keys() -> None:
    result = Result(
        answer="42",
        thinking="",
        finish_reason="stop",
        token_ids=(1, 2),
        tokens=TokenCounts(prompt=5, visual=256, thinking=0, answer=1),
        timings_ms=Timings(load=1.0, preprocess=1.0, vision=1.0, prefill=1.0, first_token=None, decode=0.0, total=4.0),
        backend="onnxruntime",
        precision="fp32",
        budget=Budget(deadline_ms=100),
    )
    plain = json.loads(json.dumps(result.as_dict()))
    assert plain["token_ids"] == [1, 2]
    assert plain["tokens"] == {"prompt": 5, "visual": 256, "thinking": 0, "answer": 1, "reused": 0, "forced": 0}
    assert list(plain["timings_ms"]) == ["load", "preprocess", "vision", "prefill", "first_token", "decode", "total"]
    assert plain["budget"]["deadline_ms"] == 100
    assert set(plain) == {
        "answer",
        "thinking",
        "finish_reason",
        "token_ids",
        "tokens",
        "timings_ms",
        "backend",
        "precision",
        "value",
        "made_up",
        "budget",
        "plan",
        "outcome",
    }
