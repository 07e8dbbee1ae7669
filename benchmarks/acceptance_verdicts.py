"""The four verdicts of `phiedge accept` on the reference model, by the real command: each comes where it must.

    python -m benchmarks.acceptance_verdicts [--bundle DIRECTORY] [--keep]

A limit of twenty times the median that a first run measures must pass, one of a quarter of it must fail, ten requests
for 99 % must stay open, and a machine on which two other processes compute, with a precondition against that, must be
invalid. Beside the verdicts stands how long each took and what it noted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import add_options, publish

SPEC = """\
schema = "phiedge.accept/1"
[[workload]]
name = "tick"
prompt = "What number is on the display?"
pictures = ["kiosk.png"]
think = "off"
max_new_tokens = 8
arrival = {{ kind = "periodic", period_ms = {period_ms:.0f} }}
[[budget]]
workload = "tick"
metric = "e2e_ms"
quantile = 0.99
limit_ms = {limit_ms:.3f}
[statistics]
plan = "sequential"
max_requests = {requests}
[environment]
swap_in_pages_max = 0
{precondition}
"""
PICTURE = Path(__file__).parents[1] / "examples" / "kiosk.png"
QUIET, BUSY = "", "foreign_cpu_share_max = 0.2"
# The verdict that must come, with the limit as a multiple of the median, the most requests, and what is asked.
CASES = (
    ("PASS", 20.0, 2000, QUIET),
    ("FAIL", 0.25, 2000, QUIET),
    ("INCONCLUSIVE", 20.0, 10, QUIET),
    ("INVALID", 20.0, 2000, BUSY),
)


def accept(bundle: Path, work: Path, name: str, **spec: Any) -> dict[str, Any]:
    """What the command says, how it ended and how long it took."""
    path = work / f"{name}.toml"
    path.write_text(SPEC.format(**spec), encoding="utf-8")
    words = [sys.executable, "-m", "phiedge", "accept", str(bundle), str(path), "--json"]
    words += ["--html", str(work / f"{name}.html"), "--junit", str(work / f"{name}.xml")]
    begun = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"exit_code": done.returncode, "seconds": round(time.monotonic() - begun, 1)}


def median_ms(evidence: Path) -> float:
    """The median of all requests of a run."""
    record = json.loads(evidence.read_text(encoding="utf-8"))
    found = sorted(sample["e2e_ms"] for samples in record["samples"].values() for sample in samples)
    return float(found[len(found) // 2])


def disturbed() -> list[subprocess.Popen[bytes]]:
    """Two processes that compute, which nobody told phiedge of."""
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]


def judge_all(bundle: Path, work: Path) -> dict[str, Any]:
    """Every case, with the verdict that came."""
    (work / PICTURE.name).write_bytes(PICTURE.read_bytes())
    first = accept(bundle, work, "first", period_ms=500, limit_ms=60_000, requests=40, precondition=QUIET)
    usual = median_ms(work / "first.evidence.json")
    found: dict[str, Any] = {"median_ms": round(usual, 2), "first_verdict": first["verdict"]}
    for wanted, factor, requests, precondition in CASES:
        others = disturbed() if wanted == "INVALID" else []
        try:
            told = accept(
                bundle,
                work,
                wanted.lower(),
                period_ms=max(50.0, 3 * usual),
                limit_ms=factor * usual,
                requests=requests,
                precondition=precondition,
            )
        finally:
            for process in others:
                process.kill()
                process.wait()
        found[wanted] = {
            "came": told["verdict"],
            "exit_code": told["exit_code"],
            "seconds": told["seconds"],
            "requests": told["budgets"][0]["strength"]["requests"],
            "reasons": told["reasons"],
            "notes": told["notes"],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="See the four verdicts come.")
    parser.add_argument("--bundle", type=Path, help="the reference model for the CPU; exported if it is not named")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = options.bundle
        if bundle is None:
            bundle = Path(work) / "bundle"
            words = [sys.executable, "-m", "phiedge", "export", "--target", "cpu", "-o", str(bundle)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        results = judge_all(bundle, Path(work))
    publish("acceptance-verdicts", {"cases": [list(case) for case in CASES]}, results, keep=options.keep)
    wrong = [wanted for wanted, *_ in CASES if results[wanted]["came"] != wanted]
    if wrong:
        raise SystemExit(f"did not come: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
