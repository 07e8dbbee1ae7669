"""docs/reference/plan.md says what the published measurements say."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "docs" / "plan_page.py"


def test_the_reference_page_is_the_one_that_the_measurements_make() -> None:
    spec = importlib.util.spec_from_file_location("plan_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/plan_page.py"
