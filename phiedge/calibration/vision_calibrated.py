"""A calibration of the vision encoder as what an export reads weights through: codes here, all else from another."""

import threading
from collections import OrderedDict

from phiedge.calibration.vision_artefact import VisionStageArtefact
from phiedge.calibration.vision_layer import linears_of
from phiedge.calibration.vision_linear import VisionCodes
from phiedge.calibration.vision_run import VisionCalibration
from phiedge.exporters.float8 import Float8Weight
from phiedge.exporters.quantised import QuantisedWeight, Quantiser, RowErrors
from phiedge.exporters.values import StoredRows

_STAGES_KEPT = 2  # a source holds a layer's tensors together, or nearly


class VisionQuantiser:
    """Hands out the codes of a calibration; what is not of vision is for `others`. Several threads may ask."""

    def __init__(self, calibration: VisionCalibration, others: Quantiser) -> None:
        self._calibration = calibration
        self._others = others
        self._places = {
            name: (place, linear, part)
            for place in range(calibration.stages)
            for linear, names in stage_linears(calibration, place).items()
            for part, name in enumerate(names)
        }
        self._kept: OrderedDict[int, VisionStageArtefact] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def method(self) -> str:
        """Names the calibration, too: another one's codes are others."""
        return f"{self._others.method}, vision {self._calibration.key}"

    def quantise(self, weight: StoredRows, *, bits: int, group_size: int) -> tuple[QuantisedWeight, RowErrors]:
        """The codes of some rows, and their distance from the weights."""
        if weight.name not in self._places:
            return self._others.quantise(weight, bits=bits, group_size=group_size)
        codes, rows = self._rows(weight)
        found = codes.int8(rows)
        return found, RowErrors.between(weight.float32(), found)

    def quantise_float8(self, weight: StoredRows) -> tuple[Float8Weight, RowErrors]:
        """The same in 8-bit floats."""
        if weight.name not in self._places:
            return self._others.quantise_float8(weight)
        codes, rows = self._rows(weight)
        found = codes.float8(rows)
        return found, RowErrors.of(weight.float32(), found.dequantise())

    def _rows(self, weight: StoredRows) -> tuple[VisionCodes, slice]:
        """The codes of the product that a tensor is of, and which of its rows are wanted."""
        place, linear, part = self._places[weight.name]
        codes = self._stage(place).codes[linear]
        names = stage_linears(self._calibration, place)[linear]
        first = part * (len(codes.scales) // len(names)) + weight.first_row
        return codes, slice(first, first + len(weight.values))

    def _stage(self, place: int) -> VisionStageArtefact:
        with self._guard:
            if place not in self._kept:
                self._kept[place] = self._calibration.stage(place)
                while len(self._kept) > _STAGES_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(place)
            return self._kept[place]


def stage_linears(calibration: VisionCalibration, place: int) -> dict[str, tuple[str, ...]]:
    """The tensors of each product of a stage."""
    return linears_of(None if place == calibration.stages - 1 else place)


def input_scales(calibration: VisionCalibration) -> dict[str, float]:
    """The scale of each linear's input, by the name of its weight in the checkpoint."""
    return {
        name: one.input_scale.scale
        for place in range(calibration.stages)
        for one in calibration.stage(place).report.linears
        for name in stage_linears(calibration, place)[one.linear]
    }
