"""Records what the real exporter makes of the reference model, for the tests to hold phiedge against without it.

    python tests/engines/edge_llm/record.py PYTHON-WITH-THE-EXPORTER

graph.onnx.gz   the decoder's graph, as it was written
weights.json    where each of its weights lies in `model.onnx.data`, and the values of those that are no weights
*.log           what it said, of a checkpoint that it reads rightly and of one whose projections are fused
fragments.npz   the codes of a weight in its order; the code at output n, input k is (5 n + 3 k) mod 16 - 8
"""

import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from fused_checkpoint import write_fused
from phiedge.bundle.graph_file import read_graph
from phiedge.engines.edge_llm.tool import clean_environment
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.pipeline import export

RECORDED = Path(__file__).parent / "recorded"
_FRAGMENTS = """
import sys, numpy as np
from tensorrt_edgellm.checkpoint.repacking import repack_to_cutedsl_fragment
n, k = np.indices((192, 128))
np.savez_compressed(sys.argv[1], stored=repack_to_cutedsl_fragment((5 * n + 3 * k) % 16))
"""


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        bundle = export("reference", target="orin", output=work / "bundle")
        checkpoint = write_checkpoint(bundle, "awq", work / "checkpoint")
        write_fused(checkpoint, work / "fused")
        for name in ("checkpoint", "fused"):
            (RECORDED / f"{name}.log").write_text(_exported(python, work, name))
        graph = work / "checkpoint-out" / "llm" / "model.onnx"
        (RECORDED / "graph.onnx.gz").write_bytes(gzip.compress(_without_traces(graph.read_bytes()), mtime=0))
        (RECORDED / "config.json").write_bytes(graph.with_name("config.json").read_bytes())
        (RECORDED / "weights.json").write_text("[" + ",\n".join(map(json.dumps, _weights(graph))) + "]\n")
        subprocess.run([python, "-c", _FRAGMENTS, RECORDED / "fragments.npz"], check=True, env=clean_environment())


def _without_traces(graph: bytes) -> bytes:
    """The graph without the lines of source, and the paths to them, that each node was traced from."""
    model = onnx.ModelProto.FromString(graph)
    for part in (*model.graph.node, *model.graph.value_info, model.graph, model):
        del part.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def _exported(python: str, work: Path, name: str) -> str:
    program = "from tensorrt_edgellm.scripts.export import main; main()"
    command = [python, "-c", program, name, f"{name}-out"]
    finished = subprocess.run(
        command, cwd=work, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = finished.stdout.replace(str(work), "WORK").replace(str(Path(python).parents[1]), "ENVIRONMENT")
    said = said.replace(sys.base_prefix, "PYTHON")
    kept = [line for line in said.splitlines() if "Replaced initializer" not in line]
    return "".join(f"{re.sub(r'^[0-9:]{8}  ', '00:00:00  ', line)}\n" for line in kept)


def _weights(path: Path) -> list[dict[str, object]]:
    data = path.with_name("model.onnx.data").read_bytes()
    graph = read_graph(path)
    factors = [name for node in graph.nodes if node.op_type == "Mul" for name in node.inputs]
    rows: list[dict[str, object]] = []
    for weight in graph.weights:
        row: dict[str, object] = {"name": weight.name, "offset": weight.offset}
        if weight.name.startswith("val_"):
            row["hex"] = data[weight.offset : weight.offset + weight.size_bytes].hex()
        elif weight.name in factors and len(weight.shape) == 1:
            row["norm"] = sum(
                len(other.shape) == 1 and other.name in factors[: factors.index(weight.name)] for other in graph.weights
            )
        rows.append(row)
    return rows


if __name__ == "__main__":
    main(sys.argv[1])
