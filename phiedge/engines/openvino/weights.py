"""The weights that lie beside a graph, by name, as views of the mapped file; nothing is read as a whole."""

import mmap
from pathlib import Path

import numpy as np

from phiedge.bundle.graph_file import Weight, read_graph
from phiedge.engines.interface import Array
from phiedge.errors import BundleError


def read_weights(graph: Path) -> dict[str, Array]:
    """Every weight that the graph file `graph` has beside itself. Raises `BundleError` for a file that is no graph."""
    beside = [(weight, weight.file) for weight in read_graph(graph).weights if weight.file is not None]
    try:
        files = {name: _map(graph.with_name(name)) for name in {file for _, file in beside}}
        return {weight.name: _array(weight, files[file]) for weight, file in beside}
    except (TypeError, ValueError, OSError) as error:
        raise BundleError(
            f"{graph} has weights that are not there: {error}", remedy="check the bundle: phiedge verify"
        ) from error


def _array(weight: Weight, source: memoryview) -> Array:
    count = int(np.prod(weight.shape, dtype=np.int64))
    array: Array = np.frombuffer(source, np.dtype(weight.dtype), count, weight.offset)
    return array.reshape(weight.shape)


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:  # a private mapping: OpenVINO refers only to memory that it could write to
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
