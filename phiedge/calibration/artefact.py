"""What calibration leaves of one layer: folded norms, codes and scales of its linears, and the factors folded away.

One safetensors file per layer, written whole or not at all. Every format that engines want is another order of the same
codes and scales.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from phiedge.calibration.decoder_layer import LINEARS, Linear
from phiedge.errors import ExportError
from phiedge.exporters.quantised import QuantisedWeight

_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearReport:
    """How one linear was quantised. `errors`: relative squared output error on held-out rows, by method.

    `largest_input` is the largest input in magnitude, `outliers` the columns whose largest input is over 20 times that
    of the median column.
    """

    linear: Linear
    method: str
    alpha: float
    errors: Mapping[str, float]
    largest_input: float
    outliers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """`largest_row`: the largest number along the residual, which float16 has to hold where the residual is float16.

    `relative_error`: of the rows that leave the layer, |x' - x|^2 / |x|^2 on held-out samples, beside those of the
    original model; it adds up over the layers.
    """

    layer: int
    linears: tuple[LinearReport, ...]
    largest_row: float
    seconds: float
    relative_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerArtefact:
    """norms: float32 [hidden], before attention and before the gated MLP; factors: float32 [K] by linear."""

    norms: tuple[Tensor, Tensor]
    weights: Mapping[Linear, QuantisedWeight]
    factors: Mapping[Linear, Tensor]
    report: LayerReport

    def save(self, path: Path, key: str) -> None:
        """Write it under the name `path`, all at once; `key` says what it was made from."""
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "norm.input": self.norms[0].numpy(),
            "norm.post_attention": self.norms[1].numpy(),
        }
        some = next(iter(self.weights.values()))
        for linear in LINEARS:
            arrays[f"{linear}.packed"] = self.weights[linear].packed
            arrays[f"{linear}.scales"] = self.weights[linear].scales.astype(np.float16)
            arrays[f"{linear}.factors"] = self.factors[linear].numpy()
        metadata = {
            "version": _VERSION,
            "key": key,
            "bits": str(some.bits),
            "group_size": str(some.group_size),
            "report": json.dumps(asdict(self.report)),
        }
        part = path.with_name(path.name + ".part")
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part, metadata)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)

    @staticmethod
    def load(path: Path, key: str) -> "LayerArtefact":
        """Read what `save` wrote. Raises `ExportError` for a file of another key or that is none."""
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{path} cannot be read: {error}", remedy="remove it and calibrate again") from error
        if metadata.get("version") != _VERSION or metadata.get("key") != key:
            raise ExportError(f"{path} was calibrated for something else", remedy="remove it and calibrate again")
        weights: dict[Linear, QuantisedWeight] = {
            linear: QuantisedWeight(
                packed=arrays[f"{linear}.packed"],
                scales=arrays[f"{linear}.scales"].astype(np.float32),
                bits=int(metadata["bits"]),
                group_size=int(metadata["group_size"]),
            )
            for linear in LINEARS
        }
        return LayerArtefact(
            norms=(torch.from_numpy(arrays["norm.input"]), torch.from_numpy(arrays["norm.post_attention"])),
            weights=weights,
            factors={linear: torch.from_numpy(arrays[f"{linear}.factors"]) for linear in LINEARS},
            report=_report(json.loads(metadata["report"])),
        )


def _report(stored: dict[str, Any]) -> LayerReport:
    linears = tuple(LinearReport(**linear | {"outliers": tuple(linear["outliers"])}) for linear in stored["linears"])
    return LayerReport(**stored | {"linears": linears})
