"""`phiedge bench` of a bundle, kept: speeds beside the limits of the machine, with the conditions of the run.

    python -m benchmarks.bundle_speed BUNDLE --name 15b [--keep] [options of phiedge bench]

The name says which bundle it is: reference, 1b or 15b. Whatever else is given goes to `phiedge bench` as it is.
"""

import argparse
import json
import subprocess
import sys

from benchmarks.record import add_options, publish

NAMES = ("reference", "1b", "15b")


def measure(bundle: str, options: list[str]) -> dict[str, object]:
    """What `phiedge bench --json` says; exits with its error if it fails."""
    command = [sys.executable, "-m", "phiedge", "bench", bundle, "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(command)} failed: {done.stdout}")
    found: dict[str, object] = json.loads(done.stdout)
    setting = found["setting"]
    assert isinstance(setting, dict)
    setting["bundle"] = None  # a path of this machine
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep what phiedge bench measures of a bundle.")
    parser.add_argument("bundle")
    parser.add_argument("--name", choices=NAMES, required=True)
    add_options(parser)
    options, rest = parser.parse_known_args()
    publish(f"bundle-speed-{options.name}", {"options": rest}, measure(options.bundle, rest), keep=options.keep)


if __name__ == "__main__":
    main()
