"""Evidence as JUnit XML, which CI systems show: a test case for each budget."""

from typing import Any
from xml.etree import ElementTree as Xml


def junit(record: dict[str, Any]) -> str:
    """The XML of `evidence`. A FAIL is a failure, INVALID an error, INCONCLUSIVE an error, too: nothing is shown."""
    invalid = record["verdict"] == "INVALID"
    cases = record["budgets"]
    disturbed = invalid and not any(one["verdict"] == "INVALID" for one in cases)  # as a whole, by no budget
    failures = sum(1 for one in cases if one["verdict"] == "FAIL" and not disturbed)
    errors = sum(1 for one in cases if disturbed or one["verdict"] in ("INCONCLUSIVE", "INVALID"))
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
    told = {name: record[name] for name in ("verdict", "seal", "phiedge_version")}
    told |= {"device": record["device"]["identity"]["device"] or "unknown", "machine": record["machine"]["cpu"]}
    for name, value in told.items():
        Xml.SubElement(properties, "property", name=name, value=value)
    for note in record["notes"]:
        Xml.SubElement(properties, "property", name="note", value=note)
    for one in cases:
        case = Xml.SubElement(suite, "testcase", classname=f"phiedge.accept.{one['workload']}", name=one["budget"])
        if disturbed:
            Xml.SubElement(case, "error", type="INVALID", message="; ".join(record["reasons"]))
        elif one["verdict"] == "FAIL":
            Xml.SubElement(case, "failure", type="FAIL", message=one["reason"])
        elif one["verdict"] in ("INCONCLUSIVE", "INVALID"):
            Xml.SubElement(case, "error", type=one["verdict"], message=one["reason"])
        Xml.SubElement(case, "system-out").text = one["reason"]
    Xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suite, encoding="unicode") + "\n"
