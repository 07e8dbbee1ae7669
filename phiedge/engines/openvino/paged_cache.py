"""The cache that paged attention reads and writes: blocks of positions for every layer, and where a run's rows lie.

One sequence has its blocks in order, so block `n` holds the positions from `n * block_size` on. The arrays are ours: a
run that is stopped leaves garbage from its first position on, and going back to an earlier length is another number.
"""

from typing import Any

import numpy as np

from phiedge.engines.interface import Array
from phiedge.engines.openvino.library import ov
from phiedge.errors import SessionError

_CACHE = ("key_cache.", "value_cache.")


class PagedCache:
    """Blocks for `capacity` positions, bound to a request of `model`; `place` tells the request where rows go."""

    def __init__(self, model: ov.CompiledModel, request: Any, *, capacity: int) -> None:
        self._request = request
        ports = [port for port in model.inputs if port.get_any_name().startswith(_CACHE)]
        inner = [dimension.get_length() for dimension in list(ports[0].get_partial_shape())[1:]]
        self.block_size = inner[1]
        blocks = -(-capacity // self.block_size)
        self.size_bytes: int = len(ports) * blocks * int(np.prod(inner)) * ports[0].get_element_type().size
        try:
            for port in ports:
                request.set_tensor(port, ov.Tensor(port.get_element_type(), ov.Shape([blocks, *inner])))
        except (MemoryError, RuntimeError) as error:
            raise SessionError(
                f"a cache of {capacity} positions needs {self.size_bytes / 1e9:.2f} GB, which the system does not give",
                remedy="open the session with a smaller max_context",
            ) from error
        self._lengths = {
            name: self._bind(name, np.zeros(shape, np.int32))
            for name, shape in (
                ("past_lens", (1,)),
                ("subsequence_begins", (2,)),
                ("block_indices_begins", (2,)),
                ("max_context_len", ()),
            )
        }
        self._blocks = np.arange(blocks, dtype=np.int32)
        self._used = 0

    def place(self, past: int, count: int) -> None:
        """The next run has `count` rows, after `past` positions."""
        blocks = -(-(past + count) // self.block_size)
        self._lengths["past_lens"][0] = past
        self._lengths["subsequence_begins"][1] = count
        self._lengths["block_indices_begins"][1] = blocks
        self._lengths["max_context_len"][()] = past + count
        if blocks != self._used:
            self._request.set_tensor("block_indices", ov.Tensor(self._blocks[:blocks], shared_memory=True))
            self._used = blocks

    def _bind(self, name: str, array: Array) -> Array:
        self._request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return array
