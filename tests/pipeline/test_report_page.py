"""The report as a page: what is in it, what is left out, and that nothing is loaded from elsewhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from phiedge.bundle import Bundle
from phiedge.pipeline.inspection import inspect_bundle
from phiedge.pipeline.report_page import report_page

LINEARS = ("qkv", "o", "gate_up", "down")
MODULES = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")


def calibration(layers: int) -> dict[str, Any]:
    return {
        "data": "kiosk <photos>.jsonl",
        "samples": 64,
        "held_out": 8,
        "rows": {"text": 900, "visual": 3600, "thinking": 100},
        "visual_row_weight": 0.25,
        "divergence": {
            "all": {"rows": 400, "kl_mean": 0.011, "top1_agreement": 0.97},
            "thinking": {"rows": 40, "kl_mean": 0.03, "top1_agreement": 0.95},
        },
        "layers": [
            {
                "layer": layer,
                "linears": [
                    {
                        "linear": linear,
                        "method": "gptq",
                        "alpha": 0.0,
                        "errors": {"rtn": 0.01, "gptq": 0.001},
                        "largest_input": 812.5,
                        "outliers": [3, 17] if layer == 0 else [],
                    }
                    for linear in LINEARS
                ],
                "largest_row": 655.04,
                "relative_error": 0.001 * (layer + 1),
            }
            for layer in range(layers)
        ],
        "head": None,
    }


def sensitivity(layers: int) -> dict[str, Any]:
    names = [f"model.layers.{layer}.{module}.weight" for layer in range(layers) for module in MODULES]
    return {
        "rows": 300,
        "wider_as": "int8",
        "linears": [
            {"name": name, "kl_mean": 0.001 * (place + 1), "top1_agreement": 0.9, "bytes": 100, "more_bytes": 100}
            for place, name in enumerate(names)
        ],
        "curve": [
            {"wider": [], "linears_bytes": 1_000_000, "kl_mean": 0.02, "top1_agreement": 0.95},
            {"wider": names[:2], "linears_bytes": 1_100_000, "kl_mean": 0.005, "top1_agreement": 0.98},
        ],
    }


def report(layers: int = 2, **changes: Any) -> dict[str, Any]:
    return {
        "precision": "int4",
        "method": "calibrated",
        "group_size": 128,
        "notes": ["a note & more"],
        "totals": {"weights": 8000, "stored_bytes": 4125, "bits_per_weight": 4.125},
        "tensors": [],
        "calibration": calibration(layers),
        "sensitivity": sensitivity(layers),
        "mixed": None,
        "end_to_end": None,
        "accuracy": None,
    } | changes


def page(report: dict[str, Any]) -> str:
    return report_page(report, model="a <model>", target="orin")


class Balanced(HTMLParser):
    """Knows whether every element that was opened is closed."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("layers", [1, 2, 40])
def test_a_page_of_any_number_of_layers_is_whole_and_loads_nothing(layers: int) -> None:
    html = page(report(layers))
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://(?!www\.w3\.org/2000/svg)", html)


def test_names_are_escaped() -> None:
    html = page(report())
    assert "a &lt;model&gt;" in html
    assert "kiosk &lt;photos&gt;.jsonl" in html
    assert "a note &amp; more" in html


def test_methods_costs_outliers_and_alternatives_are_told() -> None:
    html = page(report())
    assert "the ringed one was taken (gptq 8)" in html
    assert "Most costs <code>model.layers.1.mlp.down_proj.weight</code>" in html
    assert "75 % less" in html
    assert "layer 0: qkv o" in html
    assert "100 times below where float16 ends" in html
    assert "3, 17" in html
    assert "A row of a picture weighs 0.25" in html


def test_the_bundle_is_marked_on_the_curve() -> None:
    names = sensitivity(2)["curve"][1]["wider"]
    rows = page(report(mixed={"budget_bytes": 1, "linears_bytes": 1, "wider": dict.fromkeys(names, "int8")}))
    assert re.search(r"layer 0: qkv o</td>.*?this bundle", rows.split("What more bytes")[1])


def test_a_report_without_calibration_has_a_page() -> None:
    html = page(report(calibration=None, sensitivity=None))
    assert "rounded without data" in html
    assert "What each method loses" not in html


def test_a_section_that_the_page_does_not_know_becomes_a_table() -> None:
    cache = {"cache": {"stored_as": "int8", "layers": [{"layer": 0, "key_scale": 0.0125}], "of": {"all": {"kl": 0.5}}}}
    html = page(report(**cache))
    assert "<h2>Cache</h2>" in html
    assert "key scale" in html
    assert "0.0125" in html


def test_a_bundle_has_its_page_and_inspect_names_it(exported_bundle: Path) -> None:
    bundle = Bundle.open(exported_bundle)
    (part,) = [part for part in inspect_bundle(bundle).parts if part.name == "report"]
    assert [file.path for file in part.files] == ["quantization.json", "quantization.html"]
    told = json.loads(bundle.file("quantization.json").read_bytes())
    assert bundle.file("quantization.html").read_text() == report_page(
        told, model=bundle.manifest.model.name, target=str(bundle.manifest.target["name"])
    )
