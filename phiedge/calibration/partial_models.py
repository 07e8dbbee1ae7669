"""The original model with some of its linears quantised, for several choices at once: what each choice costs.

A few held-out sequences go through all layers together, once as they are and once for each choice; a choice joins where
its first quantised linear stands, as before it computes what the original does. One layer's weights are in memory at a
time, and every row; behind each layer the rows are kept on the disk, where a measurement that was killed goes on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.artefact import LayerArtefact
from phiedge.calibration.decoder_layer import (
    LINEARS,
    LayerMath,
    Linear,
    TensorReader,
    linear_name,
    norm_names,
    read_tensor,
)
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.folding import PAIRS, Folding
from phiedge.calibration.head_run import FINAL_NORM, HEAD
from phiedge.calibration.partial_rows import PartialRows, PassedRows, measurement_key
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Kind, Sample
from phiedge.progress import Progress, silent

Place: TypeAlias = tuple[int, Linear]
Choice: TypeAlias = frozenset[Place]
_ROWS_AT_ONCE = 2048
_HEAD_ROWS_AT_ONCE = 128
_Weights: TypeAlias = Mapping[Linear, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialModels:
    """`artefacts` gives what calibration made of a layer of `source`; `compute` is the type of the products.

    `key` is what the artefacts are known by.
    """

    source: TensorReader
    artefacts: Callable[[int], LayerArtefact]
    key: str
    compute: torch.dtype
    directory: Path
    progress: Progress = silent

    @torch.no_grad()
    def divergences(self, samples: Sequence[Sample], choices: Sequence[Choice]) -> list[Divergence]:
        """For each choice, what quantising its linears alone does to next tokens behind the text rows of `samples`."""
        layers = self.source.config.num_layers
        kept = PartialRows(
            directory=self.directory,
            samples=samples,
            width=self.source.config.hidden_size,
            joins=[min((layer for layer, _ in choice), default=layers) for choice in choices],
            key=measurement_key(self.key, samples, choices),
        )
        passed = kept.latest(layers)
        if passed is None:
            passed = PassedRows(layers=0, original=self._first_rows(samples), chosen=[None] * len(choices))
        with self.progress.task("what each linear costs", layers, "layers") as advance:
            advance(passed.layers)
            while passed.layers < layers:
                passed = self._next(passed, choices)
                kept.keep(passed)
                advance(1)
        return self._compare(samples, passed.original, [rows or passed.original for rows in passed.chosen])

    def _next(self, passed: PassedRows, choices: Sequence[Choice]) -> PassedRows:
        """The rows behind one layer more."""
        index = passed.layers
        norms, weights = self._layer(index)
        quantised = effective_weights(self.artefacts(index), Folding(config=self.source.config), self.compute)
        chosen: list[list[Tensor] | None] = []
        for choice, rows in zip(choices, passed.chosen, strict=True):
            here = {linear: quantised[linear] for layer, linear in choice if layer == index}
            if here or rows is not None:
                rows = self._forward(rows or passed.original, norms, dict(weights) | here)
            chosen.append(rows)
        return PassedRows(layers=index + 1, original=self._forward(passed.original, norms, weights), chosen=chosen)

    def _first_rows(self, samples: Sequence[Sample]) -> list[Tensor]:
        file = RowFile(self.directory / "partial", [sample.rows for sample in samples], self.source.config.hidden_size)
        write_first_rows(self.source, samples, file, self.progress)
        rows = [file.read(place) for place in range(len(samples))]
        file.path.unlink()
        return rows

    def _layer(self, index: int) -> tuple[tuple[Tensor, Tensor], _Weights]:
        first, second = (read_tensor(self.source, name) for name in norm_names(index))
        weights = {linear: read_tensor(self.source, linear_name(index, linear)).to(self.compute) for linear in LINEARS}
        return (first, second), weights

    def _forward(self, rows: Sequence[Tensor], norms: tuple[Tensor, Tensor], weights: _Weights) -> list[Tensor]:
        """One layer for sequences of their own; what treats rows alike treats many at once."""
        math = LayerMath(config=self.source.config)
        given: list[Tensor] = []

        def multiply(linear: Linear, x: Tensor) -> Tensor:
            return functional.linear(x.to(self.compute), weights[linear])

        for some in _chunks(rows):
            lengths = [len(part) for part in some]
            x = torch.cat(some)
            qkv = multiply("qkv", math.normed(x, norms[0]))
            attended = torch.cat([math.attended(part) for part in torch.split(qkv, lengths)])
            h = x + multiply("o", attended).float()
            gated = math.gated(multiply("gate_up", math.normed(h, norms[1])))
            given += torch.split(h + multiply("down", gated).float(), lengths)
        return given

    def _compare(
        self, samples: Sequence[Sample], original: Sequence[Tensor], chosen: Sequence[Sequence[Tensor]]
    ) -> list[Divergence]:
        norm = read_tensor(self.source, FINAL_NORM)
        head = read_tensor(self.source, HEAD).to(self.compute)
        math = LayerMath(config=self.source.config)
        text = [torch.from_numpy(sample.kinds != Kind.VISUAL) for sample in samples]

        def normed(rows: Sequence[Tensor]) -> Tensor:
            return math.normed(torch.cat([part[mask] for part, mask in zip(rows, text, strict=True)]), norm)

        wanted, found = normed(original), [normed(rows) for rows in chosen]
        kl, same = torch.zeros(len(found)), torch.zeros(len(found))
        for first in range(0, len(wanted), _HEAD_ROWS_AT_ONCE):
            rows = slice(first, first + _HEAD_ROWS_AT_ONCE)
            a = _log_probabilities(wanted[rows], head)
            for number, one in enumerate(found):
                b = _log_probabilities(one[rows], head)
                kl[number] += (a.exp() * (a - b)).sum()
                same[number] += (a.argmax(-1) == b.argmax(-1)).sum()
        count = len(wanted)
        return [
            Divergence(rows=count, kl_mean=_short(float(k) / count), top1_agreement=_short(float(s) / count))
            for k, s in zip(kl, same, strict=True)
        ]


def effective_weights(artefact: LayerArtefact, folding: Folding, dtype: torch.dtype) -> dict[Linear, Tensor]:
    """The quantised weights of a layer as they stand for the original's: with what was folded taken out again."""
    weights: dict[Linear, Tensor] = {}
    downstream = dict(PAIRS)
    for linear in LINEARS:
        weight = torch.from_numpy(artefact.weights[linear].dequantise()).div_(artefact.factors[linear])
        if linear in downstream:
            below = downstream[linear]
            weight /= folding.upstream_rows(below, artefact.factors[below])[:, None]
        weights[linear] = weight.to(dtype)
    return weights


def _chunks(rows: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    some: list[Tensor] = []
    for part in rows:
        if some and sum(map(len, some)) + len(part) > _ROWS_AT_ONCE:
            yield some
            some = []
        some.append(part)
    yield some


def _log_probabilities(rows: Tensor, head: Tensor) -> Tensor:
    return functional.log_softmax(functional.linear(rows.to(head.dtype), head).float(), dim=-1)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
