"""What calibration of the vision encoder leaves of one stage: codes, scales, and what each product lost.

One safetensors file per stage, written whole or not at all, as those of the decoder's layers (`artefact.py`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phiedge.calibration.artefact import Array, InputScale, StoredArtefact, write_artefact
from phiedge.calibration.vision_linear import VisionCodes
from phiedge.exporters.precision import VisionLinears


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLinearReport:
    """How one product was quantised. `errors`: relative squared output error on held-out rows, by method."""

    linear: str
    method: str
    errors: Mapping[str, float]
    largest_input: float
    outliers: tuple[int, ...]
    input_scale: InputScale


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionStageReport:
    """`relative_error`: of the rows that leave it, |x' - x|^2 / |x|^2 on held-out pictures, beside the original's."""

    stage: str
    linears: tuple[VisionLinearReport, ...]
    relative_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionStageArtefact:
    """The codes of each product, and the report."""

    form: VisionLinears
    codes: Mapping[str, VisionCodes]
    report: VisionStageReport

    def save(self, path: Path, key: str) -> None:
        """Write it under the name `path`, all at once; `key` says what it was made from."""
        arrays: dict[str, Array] = {}
        for linear, codes in self.codes.items():
            arrays[f"{linear}.codes"] = codes.codes
            arrays[f"{linear}.scales"] = codes.scales
        write_artefact(path, key, arrays, asdict(self.report), form={"vision": self.form})

    @staticmethod
    def load(path: Path, key: str, form: VisionLinears) -> "VisionStageArtefact":
        """Read what `save` wrote. Raises `ExportError` for a file of another key or that is none."""
        stored = StoredArtefact.read(path, key)
        report = _report(stored.report)
        codes = {
            one.linear: VisionCodes(
                form=form,
                codes=stored.arrays[f"{one.linear}.codes"],
                scales=stored.arrays[f"{one.linear}.scales"].astype(np.float32),
            )
            for one in report.linears
        }
        return VisionStageArtefact(form=form, codes=codes, report=report)


def _report(stored: dict[str, Any]) -> VisionStageReport:
    linears = tuple(
        VisionLinearReport(
            **one | {"outliers": tuple(one["outliers"]), "input_scale": InputScale(**one["input_scale"])}
        )
        for one in stored["linears"]
    )
    return VisionStageReport(**stored | {"linears": linears})
