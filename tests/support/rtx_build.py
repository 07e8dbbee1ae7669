"""Builds a decoder graph with TensorRT-RTX, whatever its dialect: `python rtx_build.py GRAPH LOG CHUNK SM...`.

One process builds one engine; its log goes to LOG. Ends with what the library said where it builds none.
"""

import subprocess
import sys
from pathlib import Path

from phiedge.engines.tensorrt.build_log import BuildLog, read_log


def build_log(graph: Path, *, chunk: int, sm: tuple[int, ...]) -> BuildLog | str:
    """What the builder made of `graph` in profiles of one row and of a chunk, or why it made nothing."""
    log = graph.with_suffix(".log")
    command = [sys.executable, __file__, str(graph), str(log), str(chunk), *map(str, sm)]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        return finished.stderr
    return read_log(log.read_text(encoding="utf-8").split("\n"))


def main(graph: str, path: str, chunk: int, targets: list[int]) -> None:
    import tensorrt_rtx as trt

    lines: list[str] = []

    class Log(trt.ILogger):
        def log(self, severity: object, message: str) -> None:
            lines.extend(message.split("\n"))

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    if not trt.OnnxParser(network, log).parse_from_file(graph):
        sys.exit("\n".join(lines))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(targets)
    for index, sm in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    for rows in (1, chunk):
        profile = builder.create_optimization_profile()
        for port in (network.get_input(index) for index in range(network.num_inputs)):
            if -1 in port.shape:
                profile.set_shape(port.name, *[[rows if side == -1 else side for side in port.shape]] * 3)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    Path(path).write_text("\n".join(lines), encoding="utf-8")
    if engine is None:
        sys.exit("\n".join(lines[-5:]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), [int(sm) for sm in sys.argv[4:]])
