"""A calibration for 8-bit floats as the quantiser that an export reads weights through."""

import threading
from collections import OrderedDict

from phiedge.calibration.decoder_layer import LINEARS, Linear, linear_name
from phiedge.calibration.float8_artefact import Float8LayerArtefact
from phiedge.calibration.float8_run import Float8Calibration
from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters.float8 import Float8Weight
from phiedge.exporters.quantised import QuantisedWeight, RowErrors
from phiedge.exporters.values import StoredRows

_LAYERS_KEPT = 2  # a source holds a layer's tensors together, or nearly


class Float8Quantiser:
    """Hands out the codes of a calibration; several threads may ask."""

    def __init__(self, calibration: Float8Calibration) -> None:
        self._calibration = calibration
        self._places: dict[str, tuple[int, Linear]] = {
            linear_name(layer, linear): (layer, linear) for layer in range(calibration.layers) for linear in LINEARS
        }
        self._kept: OrderedDict[int, Float8LayerArtefact] = OrderedDict()
        self._guard = threading.Lock()
        self._others = RoundToNearest()

    @property
    def method(self) -> str:
        """Names the calibration, too: another one's codes are others."""
        return f"float8 {self._calibration.key}"

    def quantise(self, weight: StoredRows, *, bits: int, group_size: int) -> tuple[QuantisedWeight, RowErrors]:
        """What is to be small integers is rounded to nearest."""
        return self._others.quantise(weight, bits=bits, group_size=group_size)

    def quantise_float8(self, weight: StoredRows) -> tuple[Float8Weight, RowErrors]:
        """The codes of some rows, and their distance from the weights."""
        if weight.name not in self._places:
            return self._others.quantise_float8(weight)
        layer, linear = self._places[weight.name]
        whole = self._layer(layer).weights[linear]
        rows = slice(weight.first_row, weight.first_row + weight.values.shape[0])
        found = Float8Weight(codes=whole.codes[rows], scales=whole.scales[rows])
        return found, RowErrors.of(weight.float32(), found.dequantise())

    def _layer(self, index: int) -> Float8LayerArtefact:
        with self._guard:
            if index not in self._kept:
                self._kept[index] = self._calibration.layer(index)
                while len(self._kept) > _LAYERS_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(index)
            return self._kept[index]
