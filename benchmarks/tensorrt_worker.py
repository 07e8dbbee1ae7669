"""Builds a decoder with TensorRT-RTX in one of several ways and says what it took; run by `tensorrt_levers`.

    python -m benchmarks.tensorrt_worker REQUEST

The request is JSON: `graph`, `engine`, `sm`, `profiles` (rows of each), and the settings that are tried: `level` (the
builder's optimisation level), `threads`, `streamed` (the engine goes to the file while it is made, instead of through
memory), `mapped` (the parser gets the weights from memory that is a mapped file, instead of reading the file itself).
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorrt_rtx as trt


class Log(trt.ILogger):
    """Keeps errors."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)


class ToFile(trt.IStreamWriter):
    """Writes what comes into a file."""

    def __init__(self, path: Path) -> None:
        trt.IStreamWriter.__init__(self)
        self.file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self.file.write(data)


def build(request: dict[str, Any]) -> dict[str, object]:
    """Parse, build and write; returns what it took. Raises `SystemExit` with what the library said."""
    log = Log()
    builder = trt.Builder(log)
    builder.max_threads = request.get("threads", builder.max_threads)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    begun = time.monotonic()
    kept = _parse(parser, Path(request["graph"]), mapped=request.get("mapped", False))
    config = _config(builder, network, request)
    path = Path(request["engine"])
    if request.get("streamed", False):
        writer = ToFile(path)
        built = builder.build_serialized_network_to_stream(network, config, writer)
        writer.file.close()
    else:
        built = builder.build_serialized_network(network, config)
        path.write_bytes(built)
    if not built:
        raise SystemExit("\n".join(log.errors))
    del kept
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return {
        "wall_s": round(time.monotonic() - begun, 1),
        "cpu_s": round(time.process_time(), 1),
        "peak_rss_bytes": int(status.partition("VmHWM:")[2].split()[0]) * 1024,
        "engine_bytes": path.stat().st_size,
    }


def _parse(parser: trt.OnnxParser, graph: Path, *, mapped: bool) -> object:
    """Parse; what is returned must outlive the build."""
    if not mapped:
        if not parser.parse_from_file(str(graph)):
            raise SystemExit(str(parser.get_error(0)))
        return None
    parser.load_model_proto(graph.read_bytes())
    weights = []
    for tensor in onnx.load(str(graph), load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            start, size = int(place.get("offset", 0)), int(place["length"])
            weights.append(np.memmap(graph.parent / place["location"], mode="r", offset=start, shape=size))
            parser.load_initializer(tensor.name, weights[-1].ctypes.data, size)
    if not parser.parse_model_proto():
        raise SystemExit(str(parser.get_error(0)))
    return weights


def _config(builder: trt.Builder, network: trt.INetworkDefinition, request: dict[str, Any]) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = request.get("level", config.builder_optimization_level)
    config.num_compute_capabilities = len(request["sm"])
    for index, sm in enumerate(request["sm"]):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    for rows in request["profiles"]:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            port = network.get_input(index)
            if -1 in port.shape:
                sized = [rows if side == -1 else side for side in port.shape]
                profile.set_shape(port.name, sized, sized, sized)
        config.add_optimization_profile(profile)
    return config


if __name__ == "__main__":
    print(json.dumps(build(json.loads(sys.argv[1]))))
