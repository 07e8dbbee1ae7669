"""Evidence as JUnit XML, which CI systems show: a test case for each budget."""

from typing import Any
from xml.etree import ElementTree as Xml


def junit(record: dict[str, Any]) -> str:
    """The XML of `evidence`. A FAIL is a failure, INVALID an error, INCONCLUSIVE an error, too: nothing is shown."""
    invalid = record["verdict"] == "INVALID"
    cases = record["budgets"]
    failures = sum(1 for one in cases if one["verdict"] == "FAIL" and not invalid)
    errors = sum(1 for one in cases if invalid or one["verdict"] == "INCONCLUSIVE")
    elapsed = f"{record['environment']['figures'].get('elapsed_s') or 0:.3f}"
    suite = Xml.Element(
        "testsuite",
        name="phiedge accept",
        tests=str(len(cases)),
        failures=str(failures),
        errors=str(errors),
        time=elapsed,
        timestamp=record["written"],
    )
    properties = Xml.SubElement(suite, "properties")
    for name in ("verdict", "seal", "phiedge_version"):
        Xml.SubElement(properties, "property", name=name, value=record[name])
    for one in cases:
        case = Xml.SubElement(suite, "testcase", classname=f"phiedge.accept.{one['workload']}", name=one["budget"])
        if invalid:
            Xml.SubElement(case, "error", type="INVALID", message="; ".join(record["reasons"]))
        elif one["verdict"] == "FAIL":
            Xml.SubElement(case, "failure", type="FAIL", message=one["reason"])
        elif one["verdict"] == "INCONCLUSIVE":
            Xml.SubElement(case, "error", type="INCONCLUSIVE", message=one["reason"])
        Xml.SubElement(case, "system-out").text = one["reason"]
    Xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suite, encoding="unicode") + "\n"
