"""`quantization.json` as `inspect` needs it: the errors of tensors by name, and the rest as it is."""

import json
from dataclasses import dataclass
from math import isfinite

from phiedge.bundle import Bundle
from phiedge.bundle.record import Json
from phiedge.errors import BundleError
from phiedge.pipeline.inspection.layers import QuantisationError


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisationReport:
    """The errors of quantised tensors by the checkpoint's name, and `summary`: all but the rows of tensors."""

    errors: dict[str, QuantisationError]
    summary: dict[str, Json]


def read_quantisation(bundle: Bundle) -> QuantisationReport | None:
    """The report of a bundle that has one. Raises `BundleError` for one that is damaged."""
    name = bundle.manifest.quantization
    if name is None:
        return None
    path = bundle.file(name)
    try:
        value = json.loads(path.read_bytes(), parse_constant=_finite, parse_float=_finite)
        rows = value.pop("tensors")
        errors = {str(row["name"]): _error(row) for row in rows}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path} is not a report of quantisation: {type(error).__name__}: {error}",
            remedy="copy or export the bundle again; `phiedge verify` says whether its bytes are as they were written",
        ) from error
    return QuantisationReport(errors=errors, summary=value)


def _error(row: dict[str, object]) -> QuantisationError:
    return QuantisationError(
        relative_l2=_number(row, "relative_l2"),
        max_abs_error=_number(row, "max_abs_error"),
    )


def _number(row: dict[str, object], key: str) -> float:
    value = row[key]
    if not isinstance(value, int | float):
        raise ValueError(f"{key} of {row['name']} is {value!r}")
    return float(value)


def _finite(word: str) -> float:
    """A number that can be written as JSON again."""
    value = float(word)
    if not isfinite(value):
        raise ValueError(f"{word} is not a finite number")
    return value
