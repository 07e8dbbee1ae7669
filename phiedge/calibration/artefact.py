"""What calibration leaves of one layer: folded norms, codes and scales of its linears, and the factors folded away.

One safetensors file per layer, written whole or not at all. Every format that engines want is another order of the same
codes and scales.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from phiedge.calibration.decoder_layer import LINEARS, Linear
from phiedge.calibration.kv_scales import LayerCacheScales
from phiedge.errors import ExportError
from phiedge.exporters.quantised import QuantisedWeight

_VERSION = "2"
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputScale:
    """The scale that inputs in 8-bit floats are divided by, and the rule that found it.

    `errors`: relative squared output error on held-out rows with this input and the weight as it is, by rule;
    `percentile` the largest input but for one in ten thousand.
    """

    scale: float
    rule: str
    percentile: float
    errors: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearReport:
    """How one linear was quantised. `errors`: relative squared output error on held-out rows, by method.

    `largest_input` is the largest input in magnitude, `outliers` the columns whose largest input is over 20 times that
    of the median column. `input_scale` is None where inputs stay as they are.
    """

    linear: Linear | Literal["head"]
    method: str
    alpha: float
    errors: Mapping[str, float]
    largest_input: float
    outliers: tuple[int, ...]
    input_scale: InputScale | None = None


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
    """norms: float32 [hidden], before attention and before the gated MLP; factors: float32 [K] by linear.

    `cache` are the scales that a cache of what the layer's quantised weights give would have.
    """

    norms: tuple[Tensor, Tensor]
    weights: Mapping[Linear, QuantisedWeight]
    factors: Mapping[Linear, Tensor]
    cache: LayerCacheScales
    report: LayerReport

    def save(self, path: Path, key: str) -> None:
        """Write it under the name `path`, all at once; `key` says what it was made from."""
        arrays: dict[str, Array] = {
            "norm.input": self.norms[0].numpy(),
            "norm.post_attention": self.norms[1].numpy(),
        }
        for linear in LINEARS:
            arrays |= _arrays(linear, self.weights[linear])
            arrays[f"{linear}.factors"] = self.factors[linear].numpy()
        form = _form_of(self.weights["qkv"])
        write_artefact(path, key, arrays, asdict(self.report), form=form, cache=self.cache.to_json())

    def with_error(self, relative_error: float) -> "LayerArtefact":
        """The same, with how far the rows that leave the layer are from the original's."""
        return replace(self, report=replace(self.report, relative_error=relative_error))

    @staticmethod
    def load(path: Path, key: str) -> "LayerArtefact":
        """Read what `save` wrote. Raises `ExportError` for a file of another key or that is none."""
        stored = StoredArtefact.read(path, key)
        return LayerArtefact(
            norms=(
                torch.from_numpy(stored.arrays["norm.input"]),
                torch.from_numpy(stored.arrays["norm.post_attention"]),
            ),
            weights={linear: stored.weight(linear) for linear in LINEARS},
            factors={linear: torch.from_numpy(stored.arrays[f"{linear}.factors"]) for linear in LINEARS},
            cache=LayerCacheScales.from_json(stored.cache),
            report=report_of(stored.report),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadArtefact:
    """The head, where it has 4 bits; its inputs are not smoothed."""

    weight: QuantisedWeight
    report: LinearReport

    def save(self, path: Path, key: str) -> None:
        """As `LayerArtefact.save`."""
        write_artefact(path, key, _arrays("head", self.weight), asdict(self.report), form=_form_of(self.weight))

    @staticmethod
    def load(path: Path, key: str) -> "HeadArtefact":
        """As `LayerArtefact.load`."""
        stored = StoredArtefact.read(path, key)
        return HeadArtefact(weight=stored.weight("head"), report=_linear_report(stored.report))


def _arrays(name: str, weight: QuantisedWeight) -> dict[str, Array]:
    return {f"{name}.packed": weight.packed, f"{name}.scales": weight.scales.astype(np.float16)}


def _form_of(some: QuantisedWeight) -> dict[str, str]:
    return {"bits": str(some.bits), "group_size": str(some.group_size)}


def write_artefact(
    path: Path,
    key: str,
    arrays: Mapping[str, Array],
    report: dict[str, Any],
    *,
    form: Mapping[str, str] | None = None,
    cache: dict[str, Any] | None = None,
) -> None:
    """Write a file of artefacts, all at once; `form` is what is said of all of its weights."""
    told = {"version": _VERSION, "key": key, "report": json.dumps(report), "cache": json.dumps(cache)}
    metadata = told | dict(form or {})
    part = path.with_name(path.name + ".part")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part, metadata)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtefact:
    """What a file of artefacts holds."""

    arrays: Mapping[str, Array]
    form: Mapping[str, str]
    report: dict[str, Any]
    cache: dict[str, Any]

    @staticmethod
    def read(path: Path, key: str) -> "StoredArtefact":
        """Raises `ExportError` for a file of another key or that is none."""
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{path} cannot be read: {error}", remedy="remove it and calibrate again") from error
        if metadata.get("version") != _VERSION or metadata.get("key") != key:
            raise ExportError(f"{path} was calibrated for something else", remedy="remove it and calibrate again")
        return StoredArtefact(
            arrays=arrays,
            form=metadata,
            report=json.loads(metadata["report"]),
            cache=json.loads(metadata["cache"]) or {},
        )

    def weight(self, name: str) -> QuantisedWeight:
        """The small integers of one linear."""
        return QuantisedWeight(
            packed=self.arrays[f"{name}.packed"],
            scales=self.arrays[f"{name}.scales"].astype(np.float32),
            bits=int(self.form["bits"]),
            group_size=int(self.form["group_size"]),
        )


def _linear_report(stored: dict[str, Any]) -> LinearReport:
    scale = stored.get("input_scale")
    return LinearReport(
        **stored
        | {"outliers": tuple(stored["outliers"]), "input_scale": None if scale is None else InputScale(**scale)}
    )


def report_of(stored: dict[str, Any]) -> LayerReport:
    """The report of a layer, from its JSON values."""
    return LayerReport(**stored | {"linears": tuple(_linear_report(linear) for linear in stored["linears"])})
