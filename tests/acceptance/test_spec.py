"""Specs that make sense, and many that do not."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from phiedge.acceptance.spec_reading import parse_spec, read_spec, tomllib
from phiedge.acceptance.spec_template import TEMPLATE, template_for
from phiedge.devices import find
from phiedge.errors import UsageError
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, Form, JsonForm, PatternForm, PointForm

WORKLOAD = {"name": "tick", "prompt": "Hi", "arrival": {"kind": "periodic", "period_ms": 500}}
BUDGET = {"workload": "tick", "metric": "e2e_ms", "quantile": 0.99, "limit_ms": 900}


def table(**changes: Any) -> dict[str, Any]:
    spec = {"schema": "phiedge.accept/1", "workload": [WORKLOAD], "budget": [BUDGET]}
    return copy.deepcopy(spec) | changes


def test_the_template_is_a_spec_that_can_be_run_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "accept.toml"
    path.write_text(TEMPLATE, encoding="utf-8")
    read = read_spec(path)
    assert [workload.name for workload in read.spec.workloads] == ["tick"]
    assert len(read.sha256) == 64


def test_whatever_the_template_shows_in_comments_is_understood() -> None:
    lines = TEMPLATE.replace('"sequential"', '"fixed"').replace("memory_threads = 0", "memory_threads = 1").splitlines()
    commented = re.compile(r"# (\[|\w+ = )")
    shown = [line[2:] if commented.match(line) else line for line in lines]
    shown = [line for line in shown if not line.startswith(("cases", "cancel_after_ms"))]  # tick cannot have both
    quiz = '[[workload]]\nname = "quiz"\ncases = "q.jsonl"\narrival = { kind = "closed", pause_ms = 0 }\n'
    spec = parse_spec(tomllib.loads("\n".join(shown) + "\n" + quiz))
    assert spec.jitters[0].limit_ms == 300.0
    assert spec.budgets[1].weakly_hard is not None
    assert spec.workloads[0].pictures == ("screen.png",)
    assert spec.workloads[0].deadline_ms == 3000.0
    assert spec.accuracies[0].at_least == 0.8
    assert spec.cold_start is not None
    assert spec.preconditions.memory_mhz_min == 3199.0
    assert spec.coload.memory_gbps == 4.0


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({"schema": "phiedge.accept/2"}, "phiedge.accept/2", "phiedge.accept/1"),
        ({"statistic": {}}, "unknown key 'statistic'", "statistics"),
        ({"workload": []}, "no workload", "--init"),
        ({"budget": []}, "no budget", "--init"),
        ({"workload": [WORKLOAD, WORKLOAD]}, "2 workloads are named 'tick'", "name of its own"),
        ({"workload": WORKLOAD}, "list of tables", "two brackets"),
        ({"workload": [WORKLOAD | {"promt": "x"}]}, "unknown key 'promt'", "prompt"),
        ({"workload": [WORKLOAD | {"name": "*"}]}, "cannot be named", "of its own"),
        ({"workload": [WORKLOAD | {"think": "of"}]}, "must be one of", "off"),
        ({"workload": [WORKLOAD | {"max_new_tokens": "many"}]}, "of type int", None),
        ({"workload": [WORKLOAD | {"arrival": {"kind": "periodic"}}]}, "needs period_ms", "period_ms"),
        ({"workload": [WORKLOAD | {"arrival": {"kind": "closed", "period_ms": 5}}]}, "needs|takes", "pause_ms"),
        ({"workload": [WORKLOAD | {"arrival": {"kind": "trace", "offsets_ms": [5, 1]}}]}, "must rise", "order"),
        ({"budget": [BUDGET | {"quantile": 1.0}]}, "quantile 1 of e2e_ms", "between 0 and 1"),
        ({"budget": [BUDGET | {"limit_ms": 0}]}, "must be a positive number", None),
        ({"budget": [{**BUDGET, "limit_s": 1}]}, "unknown key 'limit_s'", "limit_ms"),
        ({"budget": [BUDGET | {"workload": "tock"}]}, "'tock', which the spec does not have", "tick"),
        ({"budget": [BUDGET, BUDGET | {"quantile": 0.9, "limit_ms": 1000}]}, "contradict", "leave the weaker"),
        ({"budget": [BUDGET, BUDGET | {"metric": "ttft_ms", "limit_ms": 1000}]}, "contradict", "at most e2e_ms"),
        ({"budget": [BUDGET | {"weakly_hard": {"misses": 3, "of": 3}}]}, "says nothing", "less than of"),
        ({"statistics": {"confidence": 1.0}}, "no confidence", "0.95"),
        ({"statistics": {"max_requests": 0}}, "max_requests must be 1 or more", "no sample"),
        ({"statistics": {"clustering": 1.0}}, "clustering must be", None),
        ({"environment": {"foreign_cpu_share_max": 20}}, "of type float|between 0 and 1", None),
        ({"coload": {"cpu_threads": -1}}, "cpu_threads must be", None),
        ({"workload": [WORKLOAD | {"cases": "q.jsonl"}]}, "a prompt or cases, and not both", "leave out"),
        ({"workload": [{**WORKLOAD, "prompt": ""}]}, "a prompt or cases", None),
        ({"workload": [WORKLOAD | {"choice": ["a"], "box": True}]}, "choice and box are two forms", "one of them"),
        ({"workload": [WORKLOAD | {"choice": "yes"}]}, "must be a list", None),
        ({"workload": [WORKLOAD | {"choice": ["yes", 1]}]}, "of type str", None),
        ({"workload": [WORKLOAD | {"box": "yes"}]}, "of type bool", None),
        ({"workload": [WORKLOAD | {"choices": ["yes"]}]}, "unknown key 'choices'", "choice"),
        ({"workload": [WORKLOAD | {"deadline_ms": -5}]}, "deadline_ms must be a positive", None),
        ({"workload": [WORKLOAD | {"deadline_s": 5}]}, "unknown key 'deadline_s'", "deadline_ms"),
        ({"workload": [WORKLOAD | {"on_infeasible": "degrade"}]}, "belong to a deadline", "deadline_ms"),
        ({"workload": [WORKLOAD | {"cancel_after_ms": 100}]}, "is cancelled, so that e2e_ms", "of its own"),
        ({"budget": [BUDGET | {"metric": "overrun_ms"}]}, "and no deadline_ms", "deadline_ms"),
        ({"budget": [BUDGET | {"metric": "abort_ms"}]}, "and no cancel_after_ms", "cancel_after_ms"),
        ({"accuracy": [{"workload": "tick", "at_least": 0.9}]}, "accuracy and no cases", "cases"),
        ({"accuracy": [{"workload": "tick", "at_least": 1.0}]}, "an accuracy of 1", "between 0 and 1"),
        ({"memory": [{"metric": "rss_bytes", "limit_bytes": 5}]}, "must be one of", "peak_rss_bytes"),
        ({"memory": [{"metric": "gpu_bytes", "limit_bytes": 5}] * 2}, "2 memory budgets", "weaker"),
        ({"memory": [{"metric": "gpu_bytes", "limit_mb": 5}]}, "unknown key 'limit_mb'", "limit_bytes"),
        ({"cold_start": {"quantile": 0.9}}, "lacks limit_ms", "--init"),
        ({"environment": {"gpu_clock_min": 5}}, "unknown key", "gpu_mhz_min"),
        (
            {"statistics": {"plan": "sequential"}, "jitter": [BUDGET]},
            "sequential",
            "fixed",
        ),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str, remedy: str | None) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        parse_spec(table(**changes))
    assert remedy is None or remedy in (refused.value.remedy or "")


def test_a_missing_picture_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "accept.toml"
    path.write_text(TEMPLATE.replace("# pictures", "pictures"), encoding="utf-8")
    with pytest.raises(UsageError, match="no picture"):
        read_spec(path)


def test_a_file_that_is_no_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_spec(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff = 1")
    with pytest.raises(UsageError, match="not TOML"):
        read_spec(path)


@pytest.mark.parametrize("name", ["agx-orin-64", "orin-nx-16", "thor-t5000", "rtx-4090", "dgx-spark"])
def test_a_template_for_a_device_asks_what_its_sensors_tell(name: str) -> None:
    text = template_for(find(name), first_token_ms=1234.0, total_ms=4321.0)
    spec = parse_spec(tomllib.loads(text))
    assert [budget.limit_ms for budget in spec.budgets] == [1500.0, 5400.0]
    wanted = spec.preconditions
    assert wanted.clock_shift_max == 0.03
    if name in ("agx-orin-64", "orin-nx-16"):
        assert wanted.power_mode == {"agx-orin-64": "MAXN", "orin-nx-16": "MAXN_SUPER"}[name]
        assert wanted.over_current_events_max == 0
    if name == "rtx-4090":
        assert (wanted.power_mode, wanted.throttled_samples_max) == (None, 0)
    assert wanted.gpu_mhz_min is None


FORMED = """
schema = "phiedge.accept/1"
[[workload]]
name = "tick"
prompt = "Hi"
FORM
arrival = { kind = "closed", pause_ms = 0 }
[[budget]]
workload = "tick"
metric = "answer_ms"
quantile = 0.9
limit_ms = 900
"""


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ('choice = ["yes", "no"]', ChoiceForm(["yes", "no"])),
        ('pattern = "[0-9]+"', PatternForm("[0-9]+")),
        ('schema = "answer.json"', JsonForm({"type": "integer"})),
        ("box = true", BoxForm()),
        ("point = true", PointForm()),
    ],
)
def test_the_form_of_a_workload_is_that_of_the_runtime(tmp_path: Path, key: str, form: Form) -> None:
    (tmp_path / "answer.json").write_text('{"type": "integer"}', encoding="utf-8")
    path = tmp_path / "accept.toml"
    path.write_text(FORMED.replace("FORM", key), encoding="utf-8")
    assert read_spec(path).forms == {"tick": form}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('schema = "none.json"', "workload 'tick': the schema .*none.json cannot be read"),
        ('schema = "accept.toml"', "workload 'tick': the schema is not JSON"),
        ('choice = [""]', "workload 'tick': the choice '' is empty"),
        ("choice = []", "workload 'tick': there are 0 choices"),
        ('pattern = ""', "workload 'tick': a pattern must be"),
    ],
)
def test_a_form_that_is_none_is_refused_with_the_name_of_its_workload(tmp_path: Path, key: str, message: str) -> None:
    path = tmp_path / "accept.toml"
    path.write_text(FORMED.replace("FORM", key), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_spec(path)
