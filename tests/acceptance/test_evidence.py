"""Evidence: sealed, whole or not there, and told to CI systems and people."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from null_requester import FakeClock, NullRequester, QuietWatcher
from phiedge.acceptance.budgets import LatencyBudget
from phiedge.acceptance.campaign import run_campaign
from phiedge.acceptance.evidence import evidence, read_evidence, write_evidence, write_whole
from phiedge.acceptance.html_report import html_report
from phiedge.acceptance.judgement import judge
from phiedge.acceptance.junit import junit
from phiedge.acceptance.spec import Arrival, Spec, Statistics, Workload
from phiedge.acceptance.spec_reading import SpecFile
from phiedge.bundle import Bundle
from phiedge.errors import IntegrityError, SchemaError


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = FakeClock()
    clock.install(monkeypatch)

    def record(
        limit_ms: float = 100.0,
        *broken: str,
        bundle: Bundle | None = None,
        requests: int = 2000,
        series: dict[str, list[Any]] | None = None,
    ) -> Any:
        spec = Spec(
            workloads=(Workload(name="<tick> & co", prompt="Hi", arrival=Arrival(kind="closed", pause_ms=5.0)),),
            budgets=(LatencyBudget(workload="*", metric="e2e_ms", limit_ms=limit_ms, quantile=0.9),),
            statistics=Statistics(plan="sequential", max_requests=requests),
        )
        requester = NullRequester(clock, lambda number: 20.0 + number % 7)
        campaign = run_campaign(spec, requester.open, QuietWatcher(broken=broken, series=series))
        read = SpecFile(spec=spec, directory=Path(), sha256="0" * 64)
        return evidence(read, campaign, judge(spec, campaign), bundle=bundle)

    return record


def test_what_was_written_is_read_back(make: Any, tmp_path: Path, plain_bundle: Bundle) -> None:
    path = tmp_path / "e.json"
    record = make(bundle=plain_bundle)
    write_evidence(record, path)
    assert read_evidence(path) == record
    assert record["verdict"] == "PASS"
    assert len(record["bundle"]["manifest_sha256"]) == 64
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["e.json"]


def test_an_edited_file_is_noticed(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    record = make(10.0)
    assert record["verdict"] == "FAIL"
    path.write_text(json.dumps(record | {"verdict": "PASS"}), encoding="utf-8")
    with pytest.raises(IntegrityError, match="not as it was written"):
        read_evidence(path)
    samples = json.loads(json.dumps(record))
    samples["samples"]["<tick> & co"][0]["e2e_ms"] = 1.0
    path.write_text(json.dumps(samples), encoding="utf-8")
    with pytest.raises(IntegrityError):
        read_evidence(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(IntegrityError, match="not JSON"):
        read_evidence(path)
    path.write_text('{"schema": "phiedge.evidence/9"}', encoding="utf-8")
    with pytest.raises(SchemaError, match="evidence/9"):
        read_evidence(path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "e.json"
    path.write_text("before", encoding="utf-8")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole("after", path)
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "requests", "verdict", "element"),
    [
        ((100.0,), 2000, "PASS", None),
        ((10.0,), 2000, "FAIL", "failure"),
        ((100.0,), 5, "INCONCLUSIVE", "error"),
        ((100.0, "too busy"), 2000, "INVALID", "error"),
    ],
)
def test_every_verdict_is_told_to_ci_and_to_people(
    make: Any, arguments: tuple[Any, ...], requests: int, verdict: str, element: str | None
) -> None:
    record = make(*arguments, requests=requests)
    assert record["verdict"] == verdict
    case = Xml.fromstring(junit(record)).find("testcase")
    assert case is not None
    found = [child.get("type") for child in case if child.tag in ("failure", "error")]
    assert found == ([] if element is None else [verdict])
    page = html_report(record)
    assert f'<h1 class="{verdict}">{verdict}</h1>' in page
    assert page.index("<h1") < page.index("<table")


def test_the_page_needs_nothing_else_and_its_pictures_are_well_formed(make: Any) -> None:
    series = {"at_s": [0.0, 1.0, 2.0, 3.0], "celsius": [40.0, 44.5, None, 47.0], "gpu_mhz": [1300.0] * 4}
    page = html_report(make(series=series))
    assert "hottest sensor, °C" in page
    assert "GPU clock, MHz" in page
    assert "<script" not in page
    assert set(re.findall(r"https?://[^\"]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "<tick>" not in page
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 5
    for picture in pictures:
        drawn = Xml.fromstring(picture)
        width, height = (float(value) for value in drawn.get("viewBox", "").split()[2:])
        for shape in drawn:
            for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                assert 0.0 <= float(shape.get(name, "0")) <= most


def test_the_page_tells_forms_wishes_and_the_profile_that_deadlines_rest_on(make: Any, plain_bundle: Bundle) -> None:
    record = make(bundle=plain_bundle)
    assert not re.search(
        "<h3>(Forms|what deadlines were promised by|wishes for a quieter process)", html_report(record)
    )
    (workload,) = record["spec"]["content"]["workloads"]
    workload["choice"] = ["red & blue", "green"]
    for number, sample in enumerate(record["samples"]["<tick> & co"]):
        sample["formed"] = number % 4 != 0
    locked = {"wish": "lock_memory", "status": "refused", "detail": "the limit is 8 MiB"}
    bound = {"wish": "cores", "status": "done", "detail": "on 2, 3"}
    record["realtime"] = [[locked, bound], [locked | {"status": "done", "detail": "4 MiB"}, bound]]
    identity = {
        "backend": "ort",
        "machine": {"processor": "A57", "board": "unknown"},
        "settings": {"threads": "4"},
        "versions": {},
    }
    record["bundle"]["profiles_used"] = [{"file": "profiles/ort/a.json", "sha256": "ab" * 32, "identity": identity}]
    page = html_report(record)
    asked = len(record["samples"]["<tick> & co"])
    assert f"{3 * asked // 4:,} of {asked:,} answers have the form that was asked for" in page
    assert "asked for, one of red &amp; blue, green;" in page
    for key, value in (
        ("lock_memory", "refused: the limit is 8 MiB"),
        ("lock_memory, opening 2", "done: 4 MiB"),
        ("cores", "done: on 2, 3"),
        ("profile", "profiles/ort/a.json"),
        ("its sha256", "ab" * 32),
        ("measured with", "ort, threads 4"),
        ("measured on", "processor A57"),
    ):
        assert f"<tr><th>{key}</th><td><code>{value}</code></td></tr>" in page
    assert "cores, opening 2" not in page
