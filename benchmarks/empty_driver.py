"""ONNX Runtime's CUDA provider without a GPU: the nodes that it takes, what it records, what the host does for a step.

    python -m benchmarks.empty_driver --bundle BUNDLE --headers /usr/local/cuda/include [--keep]

The bundle must be one for a discrete GPU, the Python that runs this must have onnxruntime-gpu (docs/guides/gpu.md), and
the machine gcc and CUDA's headers, but neither a GPU nor a driver: `empty_driver.c` stands in for them, with memory of
the host and kernels that do nothing. So no number that comes out means anything, and nothing is learned of speed or of
kernels. Everything before them is the real thing: the optimiser, the placement of nodes, the choice of kernels by
shape, recording and replaying, threads, copies.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from benchmarks.record import add_options, publish

_SOURCE = Path(__file__).with_suffix(".c")


def main() -> None:
    parser = argparse.ArgumentParser(description="Try ONNX Runtime's CUDA provider without a GPU.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--headers", type=Path, default=Path("/usr/local/cuda/include"), help="of CUDA")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        build_libraries(provider_library(), Path(directory), headers=options.headers)
        worker = [sys.executable, "-m", "benchmarks.empty_driver_worker", str(options.bundle)]
        environment = os.environ | {"LD_LIBRARY_PATH": directory}
        told = subprocess.run(worker, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    publish("empty-driver", {"bundle": options.bundle.name}, json.loads(told), keep=options.keep)


def provider_library() -> Path:
    """The library that holds ONNX Runtime's CUDA provider; ONNX Runtime itself is not imported here."""
    package = find_spec("onnxruntime")
    assert package is not None
    assert package.origin is not None
    library = Path(package.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.exists():
        sys.exit("this Python has no onnxruntime-gpu: see docs/guides/gpu.md")
    return library


def build_libraries(provider: Path, directory: Path, *, headers: Path) -> None:
    """Write a library for every one of CUDA's that `provider` needs, with all functions that it names."""
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", "--with-symbol-versions", str(provider)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    for name in ("cudart", "cublas", "cublasLt"):
        found = re.findall(rf"U (\w+)@(lib{name}\.so\.\d+)", listing)
        _build(name, found[0][1], {function for function, _ in found}, directory, headers=headers)
    _build("cuda", "libcuda.so.1", set(re.findall(r"U (cu[A-Z]\w+)$", listing, re.MULTILINE)), directory)
    _build("curand", "libcurand.so.10", set(), directory)
    loaded_later = set(re.findall(rb"\0(cudnn[A-Z]\w+)\0", provider.read_bytes()))
    _build("cudnn", "libcudnn.so.9", {name.decode() for name in loaded_later}, directory)


def _build(name: str, library: str, functions: Iterable[str], directory: Path, *, headers: Path | None = None) -> None:
    written = set(re.findall(r"\b(_*cu\w+)\(", _SOURCE.read_text()))
    stubs = directory / f"{name}.c"
    stubs.write_text(
        "".join(f"int {function}(void) {{ return 0; }}\n" for function in sorted(set(functions) - written))
    )
    versions = directory / f"{name}.map"
    versions.write_text(f"{library} {{ global: *; }};\n")
    command = ["gcc", "-shared", "-fPIC", "-w", f"-D{name.upper()}", f"-Wl,-soname,{library}"]
    command += [f"-I{headers}"] if headers else []
    command += [f"-Wl,--version-script={versions}"] if headers else []
    subprocess.run([*command, "-o", str(directory / library), str(stubs), str(_SOURCE)], check=True)


if __name__ == "__main__":
    main()
