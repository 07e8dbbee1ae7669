"""What each linear of the decoder costs when it alone is quantised, and which to give more bits for a given size.

Divergences of single linears nearly add up, so those that cost most for what they would take get more bits first. What
a choice costs then is not added up but measured, with all other linears quantised together.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phiedge.calibration.decoder_layer import LINEARS, linear_name
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.partial_models import Choice, PartialModels, Place
from phiedge.calibration.samples import Kind, Sample
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import PrecisionPlan

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # of what more bits for all would take: the points of the curve
_FILE = "sensitivity.json"
_SCALE_BITS = {"offset": 32, "signed": 16}  # a scale is stored as float32 beside codes from 0 up, else as float16


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """`wider` linears have more bits and the others have not: `linears_bytes` of the decoder's linears together."""

    wider: tuple[str, ...]
    linears_bytes: int
    divergence: Divergence


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """`linears`: KL in nats where only that linear is quantised. `curve` begins with all linears quantised."""

    linears: Mapping[str, Divergence]
    curve: tuple[CurvePoint, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"linears": {name: asdict(found) for name, found in self.linears.items()}} | {
            "curve": [asdict(point) for point in self.curve]
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> "Sensitivity":
        """What `as_dict` gave."""
        return Sensitivity(
            linears={name: Divergence(**found) for name, found in value["linears"].items()},
            curve=tuple(
                CurvePoint(
                    wider=tuple(point["wider"]),
                    linears_bytes=point["linears_bytes"],
                    divergence=Divergence(**point["divergence"]),
                )
                for point in value["curve"]
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSizes:
    """Bytes of each linear of the decoder, by the checkpoint's name: as planned, and what more bits take on top."""

    planned: Mapping[str, int]
    more: Mapping[str, int]

    @staticmethod
    def of(config: ModelConfig, plan: PrecisionPlan) -> "LinearSizes":
        """Of the linears that `plan` quantises."""
        assert plan.group_size is not None
        assert plan.decoder_bits is not None
        assert plan.codes is not None
        scale_bits = _SCALE_BITS[plan.codes] / plan.group_size
        wide_bits = 8 + scale_bits if plan.wider_as == "int8" else 16
        shapes = config.tensors()
        weights = {
            name: shapes[name].parameters
            for name in (linear_name(layer, linear) for layer in range(config.num_layers) for linear in LINEARS)
        }
        planned_bits = plan.decoder_bits + scale_bits
        return LinearSizes(
            planned={name: round(count * planned_bits / 8) for name, count in weights.items()},
            more={name: round(count * (wide_bits - planned_bits) / 8) for name, count in weights.items()},
        )

    def together(self, wider: Sequence[str]) -> int:
        """Bytes of all linears where `wider` have more bits."""
        return sum(self.planned.values()) + sum(self.more[name] for name in wider)


def choose_wider(costs: Mapping[str, float], more_bytes: Mapping[str, int], budget_bytes: int) -> tuple[str, ...]:
    """The linears to give more bits for at most `budget_bytes` on top: the most divergence for a byte first."""
    chosen, left = set(), budget_bytes
    for name in sorted(costs, key=lambda name: costs[name] / more_bytes[name], reverse=True):
        if costs[name] > 0 and more_bytes[name] <= left:
            chosen.add(name)
            left -= more_bytes[name]
    return tuple(name for name in costs if name in chosen)


def measure_sensitivity(
    models: PartialModels,
    samples: Sequence[Sample],
    sizes: LinearSizes,
    *,
    budget_bytes: int | None = None,
) -> Sensitivity:
    """What each linear costs, and the curve of choices, one of them for `budget_bytes` of linears; measured once.

    What is measured for a key is kept in the directory of `models`, and on the way there the rows behind each layer.
    """
    costs = _kept(models.directory, models.key)
    if costs is None:
        places = {name: place for name, place in _places(models.source.config).items() if name in sizes.planned}
        found = models.divergences(samples, [frozenset([place]) for place in places.values()])
        costs = dict(zip(places, found, strict=True))
        _keep(models.directory, models.key, costs)
    choices = _choices({name: found.kl_mean for name, found in costs.items()}, sizes, budget_bytes)
    return Sensitivity(linears=costs, curve=measure_choices(models, samples, sizes, choices))


def measure_choices(
    models: PartialModels, samples: Sequence[Sample], sizes: LinearSizes, choices: Sequence[tuple[str, ...]]
) -> tuple[CurvePoint, ...]:
    """What the decoder is like where the linears of a choice have more bits, taken to be as good as the original's."""
    every = _places(models.source.config)
    left: list[Choice] = [frozenset(every[name] for name in every if name not in wider) for wider in choices]
    return tuple(
        CurvePoint(wider=wider, linears_bytes=sizes.together(wider), divergence=found)
        for wider, found in zip(choices, models.divergences(samples, left), strict=True)
    )


def judging_samples(samples: Sequence[Sample], most_rows: int) -> list[Sample]:
    """Held-out samples of `most_rows` together, those with most text first; the shortest, where none is so short."""
    held = [sample for sample in samples if sample.held_out]
    ordered = sorted(held, key=lambda sample: int((sample.kinds == Kind.VISUAL).sum()) - sample.rows)
    chosen: list[Sample] = []
    for sample in ordered:
        if sum(one.rows for one in chosen) + sample.rows <= most_rows:
            chosen.append(sample)
    return chosen or [min(held, key=lambda sample: sample.rows)]


def _choices(costs: Mapping[str, float], sizes: LinearSizes, budget_bytes: int | None) -> list[tuple[str, ...]]:
    most = sum(sizes.more.values())
    extra = {round(share * most) for share in SHARES}
    if budget_bytes is not None:
        extra.add(budget_bytes - sizes.together(()))
    found = [choose_wider(costs, sizes.more, extra_bytes) for extra_bytes in sorted(extra)]
    return list(dict.fromkeys(found))


def _places(config: ModelConfig) -> dict[str, Place]:
    return {linear_name(layer, linear): (layer, linear) for layer in range(config.num_layers) for linear in LINEARS}


def _keep(directory: Path, key: str, costs: Mapping[str, Divergence]) -> None:
    told = {"key": key, "linears": {name: asdict(found) for name, found in costs.items()}}
    part = directory / f"{_FILE}.part"
    part.write_text(json.dumps(told), encoding="utf-8")
    part.replace(directory / _FILE)


def _kept(directory: Path, key: str) -> dict[str, Divergence] | None:
    path = directory / _FILE
    if not path.exists():
        return None
    told = json.loads(path.read_bytes())
    return {name: Divergence(**found) for name, found in told["linears"].items()} if told["key"] == key else None
