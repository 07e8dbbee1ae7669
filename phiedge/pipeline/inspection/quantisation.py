"""`quantization.json` as `inspect` needs it: the errors of tensors by name, and the rest as it is."""

import json
from dataclasses import dataclass
from math import isfinite
from typing import NoReturn

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
        value = json.loads(path.read_bytes(), parse_constant=_refuse)
        rows = value.pop("tensors")
        errors = {str(row["name"]): _error(row) for row in rows}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path} is not a report of quantisation: {type(error).__name__}: {error}",
            remedy="copy or export the bundle again; `phiedge verify` says whether its bytes are as they were written",
        ) from error
    return QuantisationReport(errors=errors, summary=value)


def _error(row: dict[str, object]) -> QuantisationError:
    relative_l2, largest = row["relative_l2"], row["max_abs_error"]
    if not all(isinstance(value, int | float) and isfinite(value) for value in (relative_l2, largest)):
        raise ValueError(f"the errors of {row['name']} are {relative_l2!r} and {largest!r}")
    assert isinstance(relative_l2, int | float)
    assert isinstance(largest, int | float)
    return QuantisationError(relative_l2=float(relative_l2), max_abs_error=float(largest))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
