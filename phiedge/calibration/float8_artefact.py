"""What calibration for 8-bit floats leaves of one layer: codes, scales of rows, and the scale of each linear's input.

One safetensors file per layer, written whole or not at all, as those of small integers (`artefact.py`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phiedge.calibration.artefact import Array, LayerReport, StoredArtefact, report_of, write_artefact
from phiedge.calibration.decoder_layer import LINEARS, Linear
from phiedge.calibration.kv_scales import LayerCacheScales
from phiedge.exporters.float8 import Float8Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8LayerArtefact:
    """The scales of inputs are in the report; `cache` is of keys and values."""

    weights: Mapping[Linear, Float8Weight]
    cache: LayerCacheScales
    report: LayerReport

    def input_scales(self) -> dict[Linear, float]:
        """The scale of the input of each linear."""
        found: dict[Linear, float] = {}
        for told in self.report.linears:
            assert told.linear != "head"
            assert told.input_scale is not None
            found[told.linear] = told.input_scale.scale
        return found

    def with_error(self, relative_error: float) -> "Float8LayerArtefact":
        """The same, with how far the rows that leave the layer are from the original's."""
        return replace(self, report=replace(self.report, relative_error=relative_error))

    def save(self, path: Path, key: str) -> None:
        """Write it under the name `path`, all at once; `key` says what it was made from."""
        arrays: dict[str, Array] = {}
        for linear in LINEARS:
            arrays[f"{linear}.codes"] = self.weights[linear].codes
            arrays[f"{linear}.scales"] = self.weights[linear].scales
        write_artefact(path, key, arrays, asdict(self.report), cache=self.cache.to_json())

    @staticmethod
    def load(path: Path, key: str) -> "Float8LayerArtefact":
        """Read what `save` wrote. Raises `ExportError` for a file of another key or that is none."""
        stored = StoredArtefact.read(path, key)
        return Float8LayerArtefact(
            weights={
                linear: Float8Weight(codes=stored.arrays[f"{linear}.codes"], scales=stored.arrays[f"{linear}.scales"])
                for linear in LINEARS
            },
            cache=LayerCacheScales.from_json(stored.cache),
            report=report_of(stored.report),
        )
