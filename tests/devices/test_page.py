"""docs/reference/devices.md says what the catalogue says."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "devices_page.py"


def test_the_reference_page_is_the_one_that_the_catalogue_makes():
    spec = importlib.util.spec_from_file_location("devices_page", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/devices_page.py"
