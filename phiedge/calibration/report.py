"""What quantisation did to every tensor, as data for `quantization.json` and its page."""

from collections.abc import Sequence
from dataclasses import asdict

from phiedge.exporters.quantised import QuantisedTensor

Row = dict[str, str | int | float | list[int]]


def quantisation_rows(tensors: Sequence[QuantisedTensor]) -> list[Row]:
    """One JSON object per tensor, in the order of the forward pass."""
    return [asdict(tensor) | {"shape": list(tensor.shape)} for tensor in tensors]


def quantisation_totals(tensors: Sequence[QuantisedTensor]) -> dict[str, str | int | float | None]:
    """What the rows come to: weights, bytes, bits per weight with scales, and the tensor that lost most."""
    weights = sum(rows * columns for rows, columns in (tensor.shape for tensor in tensors))
    stored_bytes = sum(tensor.stored_bytes for tensor in tensors)
    worst = max(tensors, key=lambda tensor: tensor.relative_l2, default=None)
    return {
        "weights": weights,
        "stored_bytes": stored_bytes,
        "bits_per_weight": 8 * stored_bytes / weights if weights else None,
        "worst_tensor": worst.name if worst else None,
        "worst_relative_l2": worst.relative_l2 if worst else None,
    }
