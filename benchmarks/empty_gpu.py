"""pycuda, and engines over it, without a GPU: is every call right, are the answers, and is everything given back?

    python -m benchmarks.empty_gpu --bundle BUNDLE [--headers /usr/local/cuda/include] [--keep]

The Python that runs this must have pycuda, the machine gcc and CUDA's headers, but neither a GPU nor a driver:
`empty_gpu.c` stands in for it, with memory of the host. BUNDLE has graphs for TensorRT; its own graphs are computed by
ONNX Runtime at the addresses that pycuda gives, in the place of an engine. So no number here is one of speed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.record import add_options, publish

_SOURCE = Path(__file__).with_suffix(".c")
_SUPPORT = Path(__file__).parents[1] / "tests" / "support"


def main() -> None:
    parser = argparse.ArgumentParser(description="Try pycuda, and engines over it, without a GPU.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--headers", type=Path, default=Path("/usr/local/cuda/include"), help="of CUDA")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        build_driver(pycuda_library(), Path(directory), headers=options.headers)
        path = os.pathsep.join(filter(None, [directory, os.environ.get("LD_LIBRARY_PATH")]))
        environment = os.environ | {"LD_LIBRARY_PATH": path, "XDG_CACHE_HOME": directory}
        worker = [sys.executable, "-m", "benchmarks.empty_gpu_worker", str(options.bundle), str(_SUPPORT)]
        told = subprocess.run(worker, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    publish("empty-gpu", {"bundle": options.bundle.name}, json.loads(told), keep=options.keep)


def pycuda_library() -> Path:
    """pycuda's compiled part, which is not loaded here."""
    package = find_spec("pycuda")
    if package is None or package.origin is None:
        sys.exit("this Python has no pycuda: pip install 'phiedge[cuda]'")
    return next(Path(package.origin).parent.glob("_driver*.so"))


def build_driver(pycuda: Path, directory: Path, *, headers: Path) -> None:
    """Write `libcuda.so.1` with all functions that pycuda names; those that are not written here end the process."""
    command = ["nm", "-D", "--undefined-only", str(pycuda)]
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    needed = set(re.findall(r"U (cu[A-Z]\w+)$", listing, re.MULTILINE))
    source = _SOURCE.read_text(encoding="utf-8")
    written = set(re.findall(r"^CUresult (cu\w+)\(", source, re.MULTILINE))
    # The headers call newer forms of some functions by their old names.
    written |= {f"{name}_v2" for name in written}
    rest = directory / "rest.c"
    rest.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in sorted(needed - written)))
    build = ["gcc", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", f"-I{headers}"]
    subprocess.run([*build, "-o", str(directory / "libcuda.so.1"), str(_SOURCE), str(rest)], check=True)


if __name__ == "__main__":
    main()
