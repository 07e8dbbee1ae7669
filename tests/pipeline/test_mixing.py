"""More bits for the linears that need them most, within a number of megabytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from phiedge.bundle import Bundle
from phiedge.errors import UsageError
from phiedge.exporters.config import ModelConfig
from phiedge.pipeline import export
from phiedge.pipeline.inspection import inspect_bundle
from phiedge.pipeline.mixing import measuring_bytes
from phiedge.pipeline.report_agreement import check_report
from published import PUBLISHED_CONFIG

LINEARS_MB = 0.06  # the two layers take 0.05 at 4 bits and 0.09 at 8


@pytest.fixture(scope="module")
def mixed(tiny_checkpoint: Path, text_examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(
        str(tiny_checkpoint),
        target="cpu",
        calibration=str(text_examples),
        method="rtn",
        linears_mb=LINEARS_MB,
        output=tmp_path_factory.mktemp("mixed") / "bundle",
        max_context=1024,
    )


def read_report(bundle: Bundle) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(bundle.file("quantization.json").read_bytes())
    return report


def test_the_costliest_linears_get_8_bits_and_the_budget_holds(mixed: Bundle) -> None:
    report = read_report(mixed)
    wider = report["mixed"]["wider"]
    assert wider
    assert set(wider.values()) == {"int8"}
    bits = {row["name"]: row["bits"] for row in report["tensors"] if row["name"] != "lm_head.weight"}
    assert {name for name, count in bits.items() if count == 8} == set(wider)
    stored = sum(row["stored_bytes"] for row in report["tensors"] if row["name"] != "lm_head.weight")
    assert stored == report["mixed"]["linears_bytes"] <= LINEARS_MB * 1e6
    costs = {one["name"]: one["kl_mean"] / one["more_bytes"] for one in report["sensitivity"]["linears"]}
    assert max(costs, key=lambda name: costs[name]) in wider


def test_manifest_report_and_graphs_say_the_same(mixed: Bundle) -> None:
    wider = read_report(mixed)["mixed"]["wider"]
    assert dict(mixed.manifest.precision.wider) == wider
    stored = {f"{layer.name}.weight": layer.stored_as for layer in inspect_bundle(mixed).layers}
    assert {name for name, kind in stored.items() if kind == "int8"} == {*wider, "lm_head.weight"}
    assert check_report(mixed) == []


def test_the_curve_falls_from_all_at_4_bits(mixed: Bundle) -> None:
    curve = read_report(mixed)["sensitivity"]["curve"]
    assert curve[0]["wider"] == []
    assert [point["linears_bytes"] for point in curve] == sorted(point["linears_bytes"] for point in curve)
    assert curve[-1]["kl_mean"] < curve[0]["kl_mean"]


def test_wider_linears_are_nearer_to_the_checkpoint(mixed: Bundle) -> None:
    rows = {row["name"]: row for row in read_report(mixed)["tensors"]}
    wider = read_report(mixed)["mixed"]["wider"]
    others = [row for name, row in rows.items() if name not in wider and name != "lm_head.weight"]
    assert max(rows[name]["relative_l2"] for name in wider) < 0.2 * min(row["relative_l2"] for row in others)


def test_for_tensorrt_wider_linears_are_float16(wide_checkpoint: Path, text_examples: Path, tmp_path: Path) -> None:
    bundle = export(
        str(wide_checkpoint),
        target="orin",
        calibration=str(text_examples),
        method="awq",
        linears_mb=0.35,
        output=tmp_path / "bundle",
        max_context=1024,
    )
    wider = read_report(bundle)["mixed"]["wider"]
    assert set(wider.values()) == {"float16"}
    layers = {(layer.name, layer.dialects): layer for layer in inspect_bundle(bundle).layers}
    of_wider = {key: layer for key, layer in layers.items() if f"{key[0]}.weight" in wider}
    assert len(of_wider) == len(wider), "dialects share the bytes"
    assert all(layer.stored_as == "float16" for layer in of_wider.values())
    assert check_report(bundle) == []


def test_a_budget_that_cannot_be_kept_is_refused_with_those_that_can(
    tiny_checkpoint: Path, text_examples: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"take 0\.\d MB at 4 bits, --linears-mb allows 0\.0") as caught:
        export(
            str(tiny_checkpoint),
            target="cpu",
            calibration=str(text_examples),
            method="rtn",
            linears_mb=0.01,
            output=tmp_path / "bundle",
            max_context=1024,
        )
    assert "--linears-mb 0." in str(caught.value.remedy)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"calibration": "none"}, "needs to know what each linear costs"),
        ({"calibration": "none", "precision": "fp32"}, "--precision fp32 has no linears of 4 bits"),
        ({"calibration": "builtin", "linears_mb": 0.0}, "is no size"),
    ],
)
def test_a_budget_without_something_to_buy_is_refused_before_anything_is_read(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        export("nowhere", target="cpu", output=tmp_path / "b", **{"linears_mb": 5.0, **options})


def test_what_measuring_holds_of_the_published_model_fits_small_machines() -> None:
    config = ModelConfig.from_json(PUBLISHED_CONFIG)
    assert 4e9 < measuring_bytes(config) < 7e9
