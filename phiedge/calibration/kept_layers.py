"""The layers of a calibration, read when they are wanted; several threads may ask."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

LayerT = TypeVar("LayerT")
_LAYERS_KEPT = 2  # a source holds a layer's tensors together, or nearly


class KeptLayers(Generic[LayerT]):
    """What `load` gives for a layer, of those that were asked for last."""

    def __init__(self, load: Callable[[int], LayerT]) -> None:
        self._load = load
        self._kept: OrderedDict[int, LayerT] = OrderedDict()
        self._guard = threading.Lock()

    def layer(self, index: int) -> LayerT:
        """The artefact of one layer."""
        with self._guard:
            if index not in self._kept:
                self._kept[index] = self._load(index)
                while len(self._kept) > _LAYERS_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(index)
            return self._kept[index]
