"""How long it takes until phiedge can be asked: the import, the help page, the opening of a session.

    python -m benchmarks.startup --bundle BUNDLE [--runs 20] [--keep]

Every sample is a new process. The import is timed inside it, `-h` as a whole process, and the session by
`Session.open`, which creates the inference sessions and allocates the cache. The files are in the page cache.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.record import add_options, publish, summary

_TIMED = "import time; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"
_IMPORT = _TIMED.format(statement="import phiedge")
_OPEN = "import phiedge; phiedge.Session; " + _TIMED.format(statement="session = phiedge.Session.open({bundle!r})")
_OPEN_COLD = _TIMED.format(statement="import phiedge; session = phiedge.Session.open({bundle!r})")


def inside_ms(code: str, runs: int) -> list[float]:
    """What each of `runs` processes printed, in milliseconds."""
    samples = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        samples.append(1000 * float(done.stdout))
    return samples


def process_ms(arguments: list[str], runs: int) -> list[float]:
    """How long each of `runs` processes lasted, in milliseconds."""
    samples = []
    for _ in range(runs):
        begun_ns = time.perf_counter_ns()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        samples.append((time.perf_counter_ns() - begun_ns) / 1e6)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure start-up times.")
    parser.add_argument("--bundle", type=Path, help="an exported bundle; without it no session is opened")
    parser.add_argument("--runs", type=int, default=20)
    add_options(parser)
    options = parser.parse_args()
    process_ms(["-m", "phiedge", "-h"], 2)  # fill the page cache and write the bytecode
    found = {
        "python_alone_ms": summary(process_ms(["-c", "pass"], options.runs), digits=1),
        "import_ms": summary(inside_ms(_IMPORT, options.runs), digits=1),
        "help_ms": summary(process_ms(["-m", "phiedge", "-h"], options.runs), digits=1),
    }
    if options.bundle is not None:
        bundle = str(options.bundle)
        found["session_open_ms"] = summary(inside_ms(_OPEN.format(bundle=bundle), options.runs), digits=1)
        with_imports = inside_ms(_OPEN_COLD.format(bundle=bundle), options.runs)
        found["session_open_with_imports_ms"] = summary(with_imports, digits=1)
    publish("startup", {"runs": options.runs}, found, keep=options.keep)


if __name__ == "__main__":
    main()
