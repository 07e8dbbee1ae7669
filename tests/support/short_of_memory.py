"""Asks an open session while there is no memory for more, and again when there is: `short_of_memory.py BUNDLE`."""

import resource
import sys
from pathlib import Path

import numpy as np

import phiedge

NEARLY_ALL_BYTES = (0, 1 << 20, 4 << 20)


def address_space_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmSize"))


def main(bundle: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), dtype=np.uint8)
    with phiedge.Session.open(bundle, max_context=256, threads=1) as session:
        before = session.generate("hello", think="off", max_new_tokens=4).token_ids
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        for more in NEARLY_ALL_BYTES:
            resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes() + more, hard))
            try:
                session.generate("hello", [picture] * 2, think="off", max_new_tokens=4, max_visual_tokens=64)
                print("answered")
            except phiedge.PhiEdgeError as error:
                print(error.message)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        again = session.generate("hello", think="off", max_new_tokens=4).token_ids
        print("the same answer as before" if again == before else f"{again}, before {before}")


if __name__ == "__main__":
    main(sys.argv[1])
