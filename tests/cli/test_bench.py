import os
import sys
from pathlib import Path
from typing import Any

import pytest

from command_lines import Told, assert_refused, tell
from phiedge.bundle import Bundle
from phiedge.engines.machine_rates import MachineRates, MeasuredRate
from phiedge.runtime.bench import running

QUICKLY = ("--steps", 2, "--seconds", 0.2, "--contexts", "16,64", "--prefill", "16", "--pictures", "64x64")


@pytest.fixture
def bundle(tiny_bundle: Bundle) -> Path:
    return tiny_bundle.path


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What rates were measured of; they are made up, as measuring takes seconds."""
    asked: list[str] = []

    def measure_rates(*, backend: str, threads: int) -> MachineRates:
        asked.append(backend)
        rate = MeasuredRate(best=50.0, median=49.0, rounds=9)
        return MachineRates(threads=threads, float_type="float32", read_gbps=rate, float_gflops=rate, int8_gops=rate)

    monkeypatch.setattr(running, "measure_rates", measure_rates)
    return asked


def test_json_has_every_figure_beside_its_limit(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "bench", bundle, *QUICKLY, "--threads", 1, "--json")
    assert (told.code, told.err) == (0, "")
    found: dict[str, Any] = told.json
    assert found.keys() == {
        "schema_version",
        "setting",
        "host",
        "rates",
        "load_ms",
        "vision",
        "prefill",
        "first_token",
        "decode",
        "memory",
        "notes",
    }
    assert [case["context"] for case in found["decode"]] == [16, 64]
    spread = {"count", "least", "p50", "p99", "most"}
    for case in (*found["vision"], *found["prefill"], found["first_token"], *found["decode"]):
        assert case["ms"].keys() == spread
        assert case["limit"].keys() == {"limit_ms", "bound", "share"}
    assert found["decode"][0]["host_us"].keys() == spread
    assert found["decode"][0]["disturbance"].keys() == {"minor_faults", "major_faults", "involuntary_switches"}
    assert found["rates"]["read_gbps"] == {"best": 50.0, "median": 49.0, "rounds": 9}
    assert found["setting"]["threads"] == found["rates"]["threads"] == 1
    assert found["memory"].keys() == {"anonymous_bytes", "file_bytes", "peak_bytes"}


def test_a_person_reads_a_table_and_what_to_mistrust(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "bench", bundle, *QUICKLY)
    assert (told.code, told.err) == (0, "")
    header, table, circumstances, notes = told.out.split("\n\n")
    assert "on onnxruntime with" in header
    lines = table.splitlines()
    assert " ".join(lines[0].split()) == "milliseconds n p50 p99 max limit reached per_s limited by"
    assert [line.split("  ")[0] for line in lines[1:]] == [
        f"vision 64x64, {lines[1].split(', ')[1].split()[0]} patches",
        "prefill 16 tokens",
        lines[3].split("  ")[0],
        "decode at 16",
        "decode at 64",
    ]
    assert lines[3].startswith("first token, ")
    assert "%" in lines[-1]
    assert {line.split()[0] for line in circumstances.splitlines()} == {
        "load",
        "memory",
        "weights",
        "reading",
        "float32",
        "int8",
        "host",
        "decode",
    }
    assert "note: p99 is given from 100 samples on" in notes


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".PNG"])
def test_a_plot_is_written_in_the_format_of_its_name(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    destination = tmp_path / f"plot{suffix}"
    told = tell(capsys, "bench", bundle, *QUICKLY, "--plot", destination)
    assert told.code == 0, told.err
    assert told.out.endswith(f"drawn to {destination}\n")
    assert [path.name for path in tmp_path.iterdir()] == [destination.name]
    magic = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix.lower()]
    assert destination.read_bytes().startswith(magic)


def test_a_plot_names_what_was_measured_with_units_and_limits(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    destination = tmp_path / "plot.svg"
    found = tell(capsys, "bench", bundle, *QUICKLY, "--plot", destination, "--json").json
    drawn = destination.read_text()
    for words in (
        f"{found['setting']['model']}, {found['setting']['precision']}",
        "onnxruntime",
        "decode, ms per token",
        "context, tokens",
        "prefill, tokens per second",
        "pictures and first token, ms",
        "p50",
        "limit (",
        "50.0 GB/s read",
    ):
        assert words in drawn, words


@pytest.mark.parametrize(
    "kind", [("--contexts", "16", "--prefill", "16"), ("--pictures", "64x64"), ("--contexts", "1,64")]
)
def test_a_plot_of_one_figure_can_be_drawn(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: tuple[str, ...]
) -> None:
    words = ("--steps", 1, "--seconds", 0.001, *kind, "--plot", tmp_path / "plot.svg")
    assert tell(capsys, "bench", bundle, *words).code == 0
    assert (tmp_path / "plot.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("--contexts", "0"), "at least 1 position, not 0", 2),
        (("--contexts", "64,,128"), "'' is not a number of tokens", 2),
        (("--contexts", "-5"), "'-5' is not a number of tokens", 2),
        (("--contexts", "many"), "'many' is not a number", 2),
        (("--contexts", "1000000"), "the session has", 1),
        (("--max-context", "32", "--contexts", "33"), "33 positions was asked, the session has 32", 1),
        (("--max-context", "1000000"), "1000000 was asked", 1),
        (("--prefill", "1000000"), "a prompt of 1000000 positions was asked", 1),
        (("--pictures", "big"), "'big' is not the size of a picture", 2),
        (("--steps", "0"), "steps must be at least 1", 2),
        (("--seconds", "0"), "seconds must be a number above 0", 2),
        (("--backend", "abacus"), "there is no backend 'abacus'", 2),
        (("--plot", "plot.gif"), "plot.gif does not end as a picture does", 2),
        (("--plot", "plot"), "plot does not end as a picture does", 2),
        (("--plot", "nowhere/plot.svg"), "there is no directory nowhere", 2),
    ],
)
def test_what_cannot_be_measured_or_drawn_is_refused_before_anything_is(
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    measured: list[str],
    words: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    assert message in assert_refused(capsys, "bench", bundle, *words, code=code)
    assert measured == []


def test_a_directory_where_nothing_can_be_written_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("phiedge.cli.bench.TemporaryFile", refuse)
    message = assert_refused(capsys, "bench", bundle, "--plot", tmp_path / "plot.svg", code=2)
    assert message == f"nothing can be written to {tmp_path}: permission denied"


def test_a_plot_onto_a_directory_is_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plot.svg").mkdir()
    assert "is a directory" in assert_refused(capsys, "bench", bundle, "--plot", tmp_path / "plot.svg", code=2)


def test_without_matplotlib_a_plot_names_the_extra(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    monkeypatch.setattr("phiedge.cli.bench.find_spec", lambda name: None)
    told: Told = tell(capsys, "bench", bundle, "--plot", "plot.svg")
    assert told.code == 1
    assert "pip install 'phiedge[plot]'" in told.err
    assert measured == []


def test_nothing_is_left_of_a_plot_that_fails(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    import phiedge.cli.bench_plot  # noqa: F401

    monkeypatch.setattr("phiedge.cli.bench_plot.Figure.savefig", fail)
    told = tell(capsys, "bench", bundle, *QUICKLY, "--plot", tmp_path / "plot.svg")
    assert told.code == 1
    assert "no space left" in told.err
    assert list(tmp_path.iterdir()) == []


def test_measuring_needs_no_matplotlib(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name for name in sys.modules if name.startswith("matplotlib")}
    assert tell(capsys, "bench", bundle, *QUICKLY).code == 0
    assert {name for name in sys.modules if name.startswith("matplotlib")} == before
