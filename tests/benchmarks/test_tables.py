"""The tables of benchmarks/README.md are made from the results that are kept beside it."""

import json
import re

from benchmarks import record, tables

RESULTS = sorted(record.RESULTS.glob("*.json"))


def test_the_page_is_the_one_that_the_results_make():
    written = tables.PAGE.read_text(encoding="utf-8")
    assert written == tables.page(written), "run: python -m benchmarks.tables"


def test_a_kept_result_says_what_was_measured_when_and_on_what():
    for path in RESULTS:
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert path.stem == f"{kept['date']}-{kept['benchmark']}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["date"])
        assert kept["machine"].keys() >= {"cpu", "cores", "memory_bytes", "python", "packages", "load_average_1m"}
        assert kept["settings"]
        assert kept["results"]


def test_a_kept_result_names_no_directory_of_the_machine():
    for path in RESULTS:
        assert not re.search(r'"[^"]*/(home|root|tmp|work|Users)/', path.read_text(encoding="utf-8")), path


def test_a_summary_gives_the_median_and_the_spread():
    found = record.summary([5.0, 1.0, 4.0, 2.0, 3.0])
    assert found == {"median": 3.0, "p10": 1.0, "p90": 5.0, "count": 5}
