"""A bundle whose report tells of other weights, with every hash in the manifest in order."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phiedge.bundle import Bundle, FileEntry, hash_file
from phiedge.bundle.graph_file import read_graph
from phiedge.cli import main
from phiedge.pipeline.report_agreement import check_report

LAYER = "model.layers.1.mlp.down_proj.weight"


def resealed(bundle: Bundle) -> Bundle:
    """The bundle as somebody leaves it who knows how to write a manifest."""
    files = {
        name: FileEntry(sha256=hash_file(bundle.path / name), bytes=(bundle.path / name).stat().st_size)
        for name in bundle.manifest.files
    }
    manifest = replace(bundle.manifest, files=files)
    (bundle.path / "manifest.json").write_bytes(manifest.to_bytes())
    return Bundle.open(bundle.path)


@pytest.fixture
def copied(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


@pytest.fixture
def edited(copied: Bundle) -> Callable[[Callable[[dict[str, Any]], object]], list[str]]:
    """What is said once the report was changed, and the manifest sealed anew."""

    def edit(change: Callable[[dict[str, Any]], object]) -> list[str]:
        path = copied.file("quantization.json")
        report = json.loads(path.read_bytes())
        change(report)
        path.write_text(json.dumps(report))
        bundle = resealed(copied)
        assert bundle.check_files() == []
        problems = check_report(bundle)
        assert all((problem.path, problem.kind) == ("quantization.json", "disagrees") for problem in problems)
        return [problem.detail for problem in problems]

    return edit


def row_of(report: dict[str, Any], name: str = LAYER) -> dict[str, Any]:
    return next(row for row in report["tensors"] if row["name"] == name)


def test_a_bundle_as_it_was_exported_agrees(tiny_bundle: Bundle, exported_bundle: Path) -> None:
    assert check_report(tiny_bundle) == []
    assert check_report(Bundle.open(exported_bundle)) == []


@pytest.mark.parametrize("part", ["int4", "scales"])
def test_a_weight_that_was_exchanged_is_found_and_nothing_is_computed_with_it(
    copied: Bundle, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = read_graph(copied.file("decoder.ort.onnx"))
    place = next(weight for weight in graph.weights if weight.name == f"{LAYER}.{part}")
    with copied.file("decoder.data").open("r+b") as file:
        file.seek(place.offset)
        first = file.read(1)
        file.seek(place.offset)
        file.write(bytes([first[0] ^ 1]))
    assert main(["verify", str(resealed(copied).path)]) == 1
    shown = capsys.readouterr().out
    assert LAYER in shown
    assert "the report is about" in shown
    assert shown.endswith("\nNOT verified\n")


def test_a_report_that_hides_a_tensor_or_makes_one_up_is_found(edited: Any) -> None:
    def exchange(report: dict[str, Any]) -> None:
        row_of(report)["name"] = "model.layers.9.mlp.down_proj.weight"

    assert edited(exchange) == [
        f"{LAYER} is quantised, and the report has no row for it",
        "model.layers.9.mlp.down_proj.weight has a row in the report, and is not quantised",
    ]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bits", 8, "8 bits in the report, 4 in the graph"),
        ("group_size", 64, "in groups of 64 in the report"),
        ("shape", [8, 8], "[8, 8] in groups of"),
        ("sha256", "0" * 64, "the report is about 000000000000"),
    ],
)
def test_a_row_that_tells_of_something_else_is_found(edited: Any, key: str, value: object, said: str) -> None:
    (found,) = edited(lambda report: row_of(report).update({key: value}))
    assert found.startswith(LAYER)
    assert said in found


def test_a_report_on_another_precision_is_found(edited: Any) -> None:
    assert edited(lambda report: report.update(precision="fp8")) == [
        "precision is fp8 in the report, int4 in the manifest"
    ]
