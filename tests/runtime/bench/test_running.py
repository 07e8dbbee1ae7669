import json

import pytest

from phiedge.bundle import Bundle
from phiedge.engines.machine_rates import MachineRates
from phiedge.errors import ContextLengthError, UsageError
from phiedge.runtime.bench import bench, plan_bench, running


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, rates: MachineRates) -> list[str]:
    """The backends that rates were asked for; the rates are made up."""
    asked: list[str] = []

    def measure_rates(*, backend: str, threads: int) -> MachineRates:
        asked.append(backend)
        return rates

    monkeypatch.setattr(running, "measure_rates", measure_rates)
    return asked


def test_a_bundle_is_measured_from_opening_to_the_last_step(oracle_bundle: Bundle, measured: list[str]) -> None:
    facts = oracle_bundle.manifest.facts
    plan = plan_bench(facts, max_context=512, contexts=[1, 64], prefill=[8, 80], pictures=["64x64"], steps=3, seconds=1)
    report = bench(oracle_bundle, plan, max_context=512, threads=2, chunk_tokens=32)
    assert measured == ["onnxruntime"] * 2, "before and after"
    assert [case.context for case in report.decode] == [1, 64]
    assert [(case.tokens, case.chunks) for case in report.prefill] == [(8, 1), (80, 3)]
    assert [case.picture for case in report.vision] == ["64x64"]
    assert report.first_token is not None
    assert report.first_token.picture == "64x64"
    assert report.setting.max_context == 512
    assert report.setting.position_bytes * 512 == 2 * facts.num_layers * facts.num_kv_heads * facts.head_dim * 4 * 512
    assert report.memory.anonymous_bytes > 0
    assert report.load_ms > 0
    assert all(case.limit is not None and case.limit.share > 0 for case in (*report.decode, *report.prefill))
    assert all(0 < case.host_us.p50 < 1000 * case.ms.p50 for case in report.decode)
    json.dumps(report.as_dict(), allow_nan=False)


def test_what_cannot_be_opened_is_refused_before_anything_is_measured(
    oracle_bundle: Bundle, measured: list[str]
) -> None:
    plan = plan_bench(oracle_bundle.manifest.facts, max_context=64)
    with pytest.raises(ContextLengthError):
        bench(oracle_bundle, plan, max_context=10**6)
    with pytest.raises(UsageError, match="backend"):
        bench(oracle_bundle, plan, backend="elsewhere")
    with pytest.raises(UsageError, match="threads"):
        bench(oracle_bundle, plan, threads=0)
    with pytest.raises(UsageError, match="chunk_tokens"):
        bench(oracle_bundle, plan, chunk_tokens=0)
    assert measured == []
