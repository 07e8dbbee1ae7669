"""What it takes to build TensorRT-RTX engines of the reference model, and what its builder made of the graphs.

    python -m benchmarks.tensorrt_build [--builder PYTHON] [--sm 86 89 120 89+120] [--keep]

No GPU is needed, and nothing runs on one. PYTHON is an interpreter that has `tensorrt-rtx-cu13`; by default the one
that runs this. The decoder has two profiles of one size each, one row and a chunk; each engine is built by a process
of its own. What must be true of the decoder (a fused attention with its mask in every layer, every cache written in
place) is read from the builder's log, and an error otherwise.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.record import add_options, publish
from phiedge.calibration.int4 import RoundToNearest
from phiedge.engines.tensorrt.build_log import BuildLog, check_decoder_log, read_log
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import choose_precision, for_tensorrt
from phiedge.reference import MODEL_PATH

CONTEXT, CHUNK = 2048, 256
_WORKER = Path(__file__).with_name("tensorrt_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build TensorRT-RTX engines of the reference model.")
    parser.add_argument("--builder", default=sys.executable, metavar="PYTHON", help="has tensorrt-rtx-cu13")
    parser.add_argument("--sm", nargs="+", default=["86", "89", "120", "89+120"], help="compute capabilities")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        config = _write_graphs(Path(work))
        found = {
            f"{part}, sm {sm}": _build(Path(work), part, sm, config, options.builder)
            for sm in options.sm
            for part in ("decoder", "vision")
        }
    publish("tensorrt-build", {"context": CONTEXT, "chunk_tokens": CHUNK}, found, keep=options.keep)


def _write_graphs(directory: Path) -> ModelConfig:
    """The reference model at int4, as TensorRT wants it."""
    with open_checkpoint(str(MODEL_PATH)) as checkpoint:
        plan = for_tensorrt(choose_precision("int4", sm=89).plan)
        write_graphs(
            checkpoint,
            precision=plan,
            dialects=["tensorrt"],
            max_context=CONTEXT,
            out_dir=directory,
            quantiser=RoundToNearest(),
        )
        return checkpoint.config


def _build(directory: Path, part: str, sm: str, config: ModelConfig, builder: str) -> dict[str, object]:
    patches = [config.min_num_patches, config.max_num_patches, config.max_num_patches]
    request = {
        "graph": str(directory / f"{part}.tensorrt.onnx"),
        "log": str(directory / "builder.log"),
        "sm": [int(one) for one in sm.split("+")],
        "profiles": [[1, 1, 1], [CHUNK, CHUNK, CHUNK]] if part == "decoder" else [patches],
    }
    (directory / "request.json").write_text(json.dumps(request), encoding="utf-8")
    command = [builder, str(_WORKER), str(directory / "request.json")]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"{part}, sm {sm}: {finished.stderr.strip()}")
    measured: dict[str, Any] = json.loads(finished.stdout)
    log = read_log((directory / "builder.log").read_text(encoding="utf-8").split("\n"))
    if part == "decoder":
        check_decoder_log(log, layers=config.num_layers, capacity=CONTEXT)
    data_bytes = (directory / f"{part}.data").stat().st_size
    return {**measured, "weights_bytes_in_bundle": data_bytes, **_told(log)}


def _told(log: BuildLog) -> dict[str, object]:
    profiles = [
        {
            "kernels": len(profile.kernels),
            "fused_attentions": len(profile.attentions),
            "int4_products": sum(kernel.has_int4_product for kernel in profile.kernels),
            "activation_bytes": profile.activation_bytes,
        }
        for profile in log.profiles
    ]
    return {"weights_bytes_in_engine": log.weights_bytes, "profiles": profiles}


if __name__ == "__main__":
    main()
