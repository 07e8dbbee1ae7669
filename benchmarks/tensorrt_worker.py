"""Builds one engine with TensorRT-RTX and says what it cost; run by `tensorrt_build`, by a Python that has the library.

    PYTHON tensorrt_worker.py REQUEST.json

The request names the graph, the file for the engine's log, the compute capabilities and the profiles: for each, the
sizes of the dynamic axis, smallest, usual and largest. One process builds one engine: after a build that failed,
others in the same process fail, too. Imports nothing of phiedge.
"""

import json
import sys
import time
from pathlib import Path

import tensorrt_rtx as trt


class Log(trt.ILogger):
    """Keeps all that the builder says."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        self.lines += message.split("\n")
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)


def build(request: dict[str, object]) -> dict[str, object]:
    """Parse, build, write the log; returns what was measured. Raises `SystemExit` with what the library said."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    started = time.monotonic()
    if not parser.parse_from_file(request["graph"]):
        raise SystemExit("\n".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = _config(builder, network, request)
    engine = builder.build_serialized_network(network, config)
    wall_s = time.monotonic() - started
    if engine is None:
        raise SystemExit("\n".join(log.errors))
    Path(request["log"]).write_text("\n".join(log.lines), encoding="utf-8")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(time.process_time(), 2),
        "peak_rss_bytes": int(status.partition("VmHWM:")[2].split()[0]) * 1024,
        "engine_bytes": engine.nbytes,
        "tensorrt_rtx": trt.__version__,
    }


def _config(builder: trt.Builder, network: trt.INetworkDefinition, request: dict[str, object]) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(request["sm"])
    for index, sm in enumerate(request["sm"]):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    for sizes in request["profiles"]:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            port = network.get_input(index)
            if -1 in port.shape:
                profile.set_shape(port.name, *([size if side == -1 else side for side in port.shape] for size in sizes))
        config.add_optimization_profile(profile)
    return config


if __name__ == "__main__":
    print(json.dumps(build(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
