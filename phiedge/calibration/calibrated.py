"""A calibration as the two things that an export reads weights through: a quantiser, and a source with folded norms.

The export stays one pass over the checkpoint. Where it asks for codes of a calibrated linear, it gets rows of the
artefact; where it asks for a norm, it gets the folded one. Everything else is the checkpoint's.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from phiedge.bundle import FileEntry
from phiedge.calibration.artefact import LayerArtefact
from phiedge.calibration.decoder_layer import LINEARS, Linear, linear_name, norm_names
from phiedge.calibration.folding import PAIRS, Folding
from phiedge.calibration.head_run import HEAD
from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.calibration.int4_run import Calibration
from phiedge.calibration.kept_layers import KeptLayers
from phiedge.errors import ExportError
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.float8 import Float8Weight
from phiedge.exporters.quantised import QuantisedWeight, RowErrors
from phiedge.exporters.safetensors_file import Array, Dtype
from phiedge.exporters.source import Block, ModelSource, SourceKind
from phiedge.exporters.values import Float32, StoredRows
from phiedge.progress import Progress, silent

METHOD = "calibrated"
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


def place_of(name: str) -> tuple[int, Linear] | None:
    """Which linear of which layer a tensor of the checkpoint is, if it is one."""
    match = _LAYER.match(name)
    if match is None:
        return None
    layer = int(match[1])
    return next(((layer, linear) for linear in LINEARS if linear_name(layer, linear) == name), None)


class FoldedWeights:
    """The checkpoint's weights with a calibration's factors folded in: what its codes stand for."""

    def __init__(self, artefacts: KeptLayers[LayerArtefact], config: ModelConfig) -> None:
        self._artefacts = artefacts
        self._folding = Folding(config=config)

    def rows(self, weight: StoredRows) -> Float32:
        """Rows of a linear, as float32."""
        place = place_of(weight.name)
        assert place is not None, weight.name
        layer, linear = place
        artefact = self._artefacts.layer(layer)
        folded: Float32 = weight.float32() * artefact.factors[linear].numpy()
        downstream = dict(PAIRS)
        if linear in downstream:
            below = downstream[linear]
            factors = self._folding.upstream_rows(below, artefact.factors[below])
            folded *= factors[_places(weight)].numpy()[:, None]
        return folded


class CalibratedQuantiser:
    """Hands out the codes of a calibration; what it does not hold is rounded to nearest."""

    def __init__(self, calibration: Calibration, config: ModelConfig) -> None:
        self._artefacts = KeptLayers(calibration.layer)
        self._folded = FoldedWeights(self._artefacts, config)
        self._head = calibration.head() if calibration.has_head else None
        self._others = RoundToNearest()

    @property
    def method(self) -> str:
        return METHOD

    def quantise(self, weight: StoredRows, *, bits: int, group_size: int) -> tuple[QuantisedWeight, RowErrors]:
        """The codes of some rows, and their distance from the folded weights."""
        if weight.name == HEAD and self._head is not None:
            quantised = _rows(self._head.weight, weight, bits, group_size)
            return quantised, RowErrors.between(weight.float32(), quantised)
        place = place_of(weight.name)
        if place is None:
            return self._others.quantise(weight, bits=bits, group_size=group_size)
        layer, linear = place
        stored, folded = self._artefacts.layer(layer).weights[linear], self._folded.rows(weight)
        if bits > stored.bits:  # calibrated with fewer, and given more afterwards
            quantised = quantise_rtn(folded, group_size, bits=bits)
        else:
            quantised = _rows(stored, weight, bits, group_size)
        return quantised, RowErrors.between(folded, quantised)

    def quantise_float8(self, weight: StoredRows) -> tuple[Float8Weight, RowErrors]:
        """A calibration for small integers holds none of these."""
        return self._others.quantise_float8(weight)


def _rows(whole: QuantisedWeight, weight: StoredRows, bits: int, group_size: int) -> QuantisedWeight:
    """The codes of the rows that are asked for, which must be asked for as they are."""
    if (whole.bits, whole.group_size) != (bits, group_size):
        raise ExportError(
            f"{weight.name} was calibrated with {whole.bits} bits in groups of {whole.group_size}, "
            f"the export wants {bits} bits in groups of {group_size}",
            remedy="calibrate again for this target",
        )
    rows = _places(weight)
    return QuantisedWeight(packed=whole.packed[rows], scales=whole.scales[rows], bits=bits, group_size=group_size)


def _places(weight: StoredRows) -> slice:
    return slice(weight.first_row, weight.first_row + weight.values.shape[0])


class FoldedSource:
    """`source` with the norms of a calibration, in float32, and so the linears `floats`, which get no codes."""

    def __init__(self, source: ModelSource, calibration: Calibration, floats: Collection[str] = ()) -> None:
        self._source = source
        self._key = calibration.key
        self._artefacts = KeptLayers(calibration.layer)
        self._floats = frozenset(floats)
        self._folded = FoldedWeights(self._artefacts, source.config)
        self._norms = {
            name: (layer, place) for layer in range(calibration.layers) for place, name in enumerate(norm_names(layer))
        }
        self.config: ModelConfig = source.config
        self.name: str = source.name
        self.path: Path = source.path
        self.source: SourceKind = source.source
        self.id: str | None = source.id
        self.revision: str | None = source.revision
        self.notes: tuple[str, ...] = source.notes

    def names(self) -> tuple[str, ...]:
        """As in the source."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """As in the source."""
        return self._source.shape(name)

    def dtype(self, name: str) -> Dtype:
        """As in the source, but for what is folded."""
        return "float32" if name in self._norms or name in self._floats else self._source.dtype(name)

    def blocks(
        self, wanted: Collection[str], *, block_bytes: int, known: Mapping[str, FileEntry] | None = None
    ) -> Iterator[Block]:
        """The source's blocks; those of norms and of `floats` give the folded values."""
        for block in self._source.blocks(wanted, block_bytes=block_bytes, known=known):
            if block.name in self._norms:
                block = replace(block, dtype="float32", load=partial(self._norm, block.name, block.rows))
            elif block.name in self._floats:
                block = replace(block, dtype="float32", load=partial(self._linear, block))
            yield block

    def digests(self) -> Mapping[str, FileEntry]:
        """As in the source."""
        return self._source.digests()

    def fingerprint(self) -> Mapping[str, str]:
        """The source's, and the calibration's."""
        return dict(self._source.fingerprint()) | {"calibration": self._key}

    def check(self) -> None:
        """The source checks itself."""
        self._source.check()

    def files(self, progress: Progress = silent) -> dict[str, FileEntry]:
        """As in the source."""
        return self._source.files(progress)

    def close(self) -> None:
        """Closes the source."""
        self._source.close()

    def _norm(self, name: str, rows: slice) -> Array:
        layer, place = self._norms[name]
        return np.ascontiguousarray(self._artefacts.layer(layer).norms[place].numpy()[rows])

    def _linear(self, block: Block) -> Array:
        stored = StoredRows(name=block.name, dtype=block.dtype, first_row=block.first_row, values=block.load())
        return self._folded.rows(stored)
