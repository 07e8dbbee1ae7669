"""Scales for a decoder in float8 (E4M3), and for a cache in float8 or int8: one layer in memory at a time.

Each layer is run twice: once as it is, to see what goes into its linears and into its cache, and once in 8 bits, so
that the next layer sees what it will see. What comes of it is a set of scales and a report; weights follow from their
scales by rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.decoder_layer import (
    LINEARS,
    Cached,
    LayerMath,
    Linear,
    Multiply,
    TensorReader,
    as_they_are,
    linear_name,
    norm_names,
    read_tensor,
)
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.eight_bits import Format, StaticScale, rounded, row_scales, static_scale
from phiedge.calibration.passing_rows import PassingRows
from phiedge.calibration.samples import Sample, row_roles
from phiedge.calibration.statistics import RowRoles
from phiedge.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class EightBits:
    """What is to have 8 bits: the linears in float8 or not, and the cache as one of the formats or not."""

    linears: bool
    cache: Format | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScales:
    """One layer's scales: of the inputs of each linear, and of keys and values. Empty and None where there are none."""

    inputs: Mapping[Linear, StaticScale]
    key: StaticScale | None
    value: StaticScale | None

    def multiply(self, weights: Mapping[Linear, Tensor]) -> Multiply:
        """Linears with these scales; `weights` are rounded already."""

        def apply(linear: Linear, x: Tensor) -> Tensor:
            scale = self.inputs.get(linear)
            return functional.linear(x if scale is None else rounded(x, scale.scale, "float8"), weights[linear])

        return apply

    def cached(self, form: Format | None) -> Cached:
        """A cache with these scales."""
        key_scale, value_scale = self.key, self.value
        if form is None or key_scale is None or value_scale is None:
            return as_they_are
        return lambda key, value: (rounded(key, key_scale.scale, form), rounded(value, value_scale.scale, form))


@dataclass(frozen=True, slots=True, kw_only=True)
class EightBitScales:
    """The scales of all layers, and how far the decoder with them is from the original on held-out rows."""

    layers: tuple[LayerScales, ...]
    divergence: Mapping[str, Divergence]


@torch.no_grad()
def calibrate_eight_bits(
    source: TensorReader,
    samples: Sequence[Sample],
    what: EightBits,
    directory: Path,
    *,
    progress: Progress = silent,
) -> EightBitScales:
    """Find the scales of every layer of `source`; rows wait in `directory`. Raises `InputError` for too few samples."""
    roles = row_roles(samples)
    rows = PassingRows(source, samples, roles, directory, torch.float32)
    rows.begin(progress)
    layers = []
    for index in range(source.config.num_layers):
        layers.append(_run_layer(source, index, samples, roles, what, rows, progress))
        rows.advance(index)
        rows.forget(index)
    return EightBitScales(layers=tuple(layers), divergence=rows.divergence())


def _run_layer(
    source: TensorReader,
    index: int,
    samples: Sequence[Sample],
    roles: Sequence[RowRoles],
    what: EightBits,
    rows: PassingRows,
    progress: Progress,
) -> LayerScales:
    math = LayerMath(config=source.config)
    first, second = (read_tensor(source, name) for name in norm_names(index))
    weights = {linear: read_tensor(source, linear_name(index, linear)) for linear in LINEARS}
    before, after = rows.before(index), rows.unfinished()
    seen = _Seen()
    with progress.task(f"layer {index} as it is", len(samples), "samples") as advance:
        for place, sample in enumerate(samples):
            if not sample.held_out:
                chosen = roles[place].searched
                math.forward(before.read(place), (first, second), seen.multiply(weights, chosen), seen.cached(chosen))
            advance(1)
    scales = LayerScales(
        inputs={linear: seen.scale(linear, "float8") for linear in LINEARS} if what.linears else {},
        key=None if what.cache is None else seen.scale("key", what.cache),
        value=None if what.cache is None else seen.scale("value", what.cache),
    )
    if what.linears:
        weights = {linear: rounded(weight, row_scales(weight), "float8") for linear, weight in weights.items()}
    with progress.task(f"layer {index} in 8 bits", len(samples), "samples") as advance:
        for place in range(len(samples)):
            given = math.forward(
                before.read(place), (first, second), scales.multiply(weights), scales.cached(what.cache)
            )
            after.write(place, given)
            advance(1)
    return scales


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Some rows of everything that gets a scale, and the largest number in all rows."""

    rows: dict[str, list[Tensor]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, x: Tensor, chosen: Tensor) -> None:
        self.rows.setdefault(name, []).append(x[chosen])
        self.largest[name] = max(self.largest.get(name, 0.0), float(x.abs().max()))

    def scale(self, name: str, form: Format) -> StaticScale:
        return static_scale(torch.cat([part.flatten() for part in self.rows[name]]), self.largest[name], form)

    def multiply(self, weights: Mapping[Linear, Tensor], chosen: Tensor) -> Multiply:
        def apply(linear: Linear, x: Tensor) -> Tensor:
            self.add(linear, x, chosen)
            return functional.linear(x, weights[linear])

        return apply

    def cached(self, chosen: Tensor) -> Cached:
        def look(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            self.add("key", key.transpose(0, 1), chosen)
            self.add("value", value.transpose(0, 1), chosen)
            return key, value

        return look
