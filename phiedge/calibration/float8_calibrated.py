"""A calibration for 8-bit floats as the quantiser that an export reads weights through."""

from phiedge.calibration.decoder_layer import LINEARS, Linear, linear_name
from phiedge.calibration.float8_run import Float8Calibration
from phiedge.calibration.int4 import RoundToNearest
from phiedge.calibration.kept_layers import KeptLayers
from phiedge.exporters.float8 import Float8Weight
from phiedge.exporters.quantised import QuantisedWeight, RowErrors
from phiedge.exporters.values import StoredRows


class Float8Quantiser:
    """Hands out the codes of a calibration; several threads may ask."""

    def __init__(self, calibration: Float8Calibration) -> None:
        self._key = calibration.key
        self._layers = KeptLayers(calibration.layer)
        self._places: dict[str, tuple[int, Linear]] = {
            linear_name(layer, linear): (layer, linear) for layer in range(calibration.layers) for linear in LINEARS
        }
        self._others = RoundToNearest()

    @property
    def method(self) -> str:
        """Names the calibration, too: another one's codes are others."""
        return f"float8 {self._key}"

    def quantise(self, weight: StoredRows, *, bits: int, group_size: int) -> tuple[QuantisedWeight, RowErrors]:
        """What is to be small integers is rounded to nearest."""
        return self._others.quantise(weight, bits=bits, group_size=group_size)

    def quantise_float8(self, weight: StoredRows) -> tuple[Float8Weight, RowErrors]:
        """The codes of some rows, and their distance from the weights."""
        if weight.name not in self._places:
            return self._others.quantise_float8(weight)
        layer, linear = self._places[weight.name]
        whole = self._layers.layer(layer).weights[linear]
        rows = slice(weight.first_row, weight.first_row + weight.values.shape[0])
        found = Float8Weight(codes=whole.codes[rows], scales=whole.scales[rows])
        return found, RowErrors.of(weight.float32(), found.dequantise())
