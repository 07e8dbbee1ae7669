"""What it takes to build TensorRT-RTX engines, and what its builder made of the graphs.

    python -m benchmarks.tensorrt_build [--bundle DIRECTORY] [--sm 86 89 120 89+120] [--keep]

The bundle is one for a GPU, at int4; without one the reference model is exported. No GPU is needed, and nothing runs on
one. Engines are built as `phiedge build` builds them, each by a process of its own, and thrown away; what must be true
of a decoder (a fused attention with its mask in every layer, every cache written in place) is an error otherwise.
Memory is that of the building process: all that was resident, and its own pages alone, looked at fifty times a second.
"""

import argparse
import os
import tempfile
import threading
from pathlib import Path

from benchmarks.record import add_options, publish
from phiedge.bundle import Bundle
from phiedge.engines.tensorrt import building
from phiedge.engines.tensorrt.build_log import BuildLog
from phiedge.engines.tensorrt.library import Library, load_library
from phiedge.engines.tensorrt.request import BuildRequest
from phiedge.engines.tensorrt.worker_process import build_in_process
from phiedge.pipeline import export

_LOOK_S = 0.02


class OwnPages:
    """The most pages of its own that the only child of this process had while this was open."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "OwnPages":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        while not self._ended.wait(_LOOK_S):
            for child in children.read_text(encoding="utf-8").split():
                self.peak_bytes = max(self.peak_bytes, anonymous_bytes(int(child)))


def anonymous_bytes(process: int) -> int:
    """Pages of a child that are no file's; 0 before it is more than a copy of this process, and once it has ended."""
    try:
        copied = Path(f"/proc/{process}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    if copied:
        return 0
    kilobytes = status.partition("RssAnon:")[2].split()
    return int(kilobytes[0]) * 1024 if kilobytes else 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Build TensorRT-RTX engines of a bundle.")
    parser.add_argument("--bundle", type=Path, metavar="DIRECTORY", help="by default the reference model's is made")
    parser.add_argument("--sm", nargs="+", default=["86", "89", "120", "89+120"], help="compute capabilities")
    parser.add_argument("--part", nargs="+", default=["decoder", "vision"], choices=["decoder", "vision"])
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.bundle.parent if options.bundle else None) as work:
        bundle = Bundle.open(options.bundle) if options.bundle else _reference(Path(work))
        library = load_library("tensorrt-rtx")
        found = {
            f"{part}, sm {sm}": _measure(bundle, library, part, sm, Path(work))
            for sm in options.sm
            for part in options.part
        }
    dialect = bundle.manifest.dialects[library.capabilities.dialect]
    settings = {
        "weights": bundle.manifest.model.source,
        "layers": bundle.manifest.facts.num_layers,
        "context": dialect.max_context,
        "chunk_tokens": building.chunk_tokens(dialect),
        "tensorrt_rtx": library.version,
    }
    name = "tensorrt-build-full-size" if options.bundle else "tensorrt-build"
    publish(name, settings, found, keep=options.keep)


def _reference(directory: Path) -> Bundle:
    return export("reference", target="rtx-4090", precision="int4", max_context=2048, output=directory / "bundle")


def _measure(bundle: Bundle, library: Library, part: str, sm: str, work: Path) -> dict[str, object]:
    family = tuple(int(one) for one in sm.split("+"))
    asked = {one.part: one for one in building.requests(bundle, library, family, work, threads=None)}
    request = asked["vision" if part == "vision" else "decoder"]
    before = os.times()
    with OwnPages() as pages:
        answer = build_in_process(request)
    after = os.times()
    found = {
        "wall_s": round(answer.build_ns / 1e9, 2),
        "cpu_s": round(after.children_user + after.children_system - before.children_user - before.children_system, 2),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "peak_rss_bytes": answer.peak_bytes,
        "peak_anonymous_bytes": pages.peak_bytes,
        "engine_bytes": answer.engine_bytes,
        "weights_bytes_in_bundle": _weights_bytes(bundle, request),
        **_told(BuildLog.from_json(Path(request.layers).read_text(encoding="utf-8"))),
    }
    Path(request.engine).unlink()
    return found


def _weights_bytes(bundle: Bundle, request: BuildRequest) -> int:
    graph = Path(request.graph).name
    return sum(entry.bytes for name, entry in bundle.manifest.graph_files(graph).items() if name != graph)


def _told(log: BuildLog) -> dict[str, object]:
    profiles = [
        {
            "kernels": len(profile.kernels),
            "fused_attentions": len(profile.attentions),
            "int4_products": profile.int4_products,
            "activation_bytes": profile.activation_bytes,
        }
        for profile in log.profiles
    ]
    return {"weights_bytes_in_engine": log.weights_bytes, "profiles": profiles}


if __name__ == "__main__":
    main()
