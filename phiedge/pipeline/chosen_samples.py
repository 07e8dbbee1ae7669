"""The samples that something is calibrated on: of a file of one's own, or builtin ones."""

from pathlib import Path

from phiedge.calibration.samples import Sample
from phiedge.pipeline.builtin_samples import BUILTIN, builtin_samples
from phiedge.pipeline.calibration_file import read_examples
from phiedge.pipeline.calibration_samples import CalibrationSource, SampleBuilder


def chosen_samples(
    source: CalibrationSource, file: str | None, *, max_context: int, count: int, builtin_context: int | None = None
) -> tuple[list[Sample], str]:
    """The samples of `file`, or `count` builtin ones where it is None; and what a report calls them.

    Builtin ones suit `builtin_context`, if it is another than that of the bundle. Raises `InputError` for examples that
    cannot be used.
    """
    if file is None:
        return builtin_samples(source, max_context=builtin_context or max_context, count=count), BUILTIN
    return SampleBuilder(source, max_context=max_context).build(read_examples(Path(file))), Path(file).name
