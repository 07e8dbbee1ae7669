"""What is told of one linear: the method, what each lost, and what its inputs are like."""

from typing import Literal

from phiedge.calibration.artefact import LinearReport
from phiedge.calibration.decoder_layer import Linear
from phiedge.calibration.methods import Chosen
from phiedge.calibration.statistics import InputStatistics

_OUTLIER = 20.0  # times the median column
_MOST_OUTLIERS = 16


def report_on(linear: Linear | Literal["head"], codes: Chosen, inputs: InputStatistics) -> LinearReport:
    """The report on `codes` that were chosen for `inputs`."""
    return LinearReport(
        linear=linear,
        method=codes.method,
        alpha=codes.smoothing.alpha,
        errors={str(method): error for method, error in codes.errors.items()},
        largest_input=float(inputs.largest.max()),
        outliers=outlier_columns(inputs),
    )


def outlier_columns(inputs: InputStatistics) -> tuple[int, ...]:
    """The columns whose largest input is far above that of the median column, the largest first."""
    limit = _OUTLIER * float(inputs.largest.median())
    order = inputs.largest.argsort(descending=True)[:_MOST_OUTLIERS]
    return tuple(int(column) for column in order if float(inputs.largest[column]) > limit)
