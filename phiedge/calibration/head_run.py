"""The head, where it is stored in 4 bits: as any linear, but without smoothing, and on text alone.

What is predicted behind a picture's rows nobody ever reads. Heads of 8 bits are rounded to nearest: they lose next to
nothing.
"""

import torch

from phiedge.calibration.artefact import HeadArtefact
from phiedge.calibration.decoder_layer import LayerMath, read_tensor
from phiedge.calibration.linear_report import report_on
from phiedge.calibration.methods import Settings, choose_codes
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.run import Run
from phiedge.calibration.samples import Kind, Sample
from phiedge.calibration.statistics import InputStatistics, RowRoles

FINAL_NORM, HEAD = "model.norm.weight", "lm_head.weight"


def calibrate_head(run: Run, rows: RowFile, settings: Settings) -> HeadArtefact:
    """Quantise the head for `rows`, which leave the last layer."""
    settings = settings.unsmoothed
    norm, math = read_tensor(run.source, FINAL_NORM), LayerMath(config=run.source.config)
    inputs = InputStatistics(
        told="the head",
        columns=run.source.config.hidden_size,
        group_size=settings.group_size,
        with_gram=settings.needs_gram,
    )
    for place in run.each("inputs of the head"):
        sample = run.samples[place]
        inputs.add(math.normed(rows.read(place), norm), _of_text(sample, run.roles[place]), sample=sample.name)
    codes = choose_codes(read_tensor(run.source, HEAD), inputs, settings)
    return HeadArtefact(weight=codes.quantised.weight(), report=report_on("head", codes, inputs))


def _of_text(sample: Sample, roles: RowRoles) -> RowRoles:
    text = torch.from_numpy(sample.kinds != Kind.VISUAL)
    return RowRoles(
        weights=roles.weights * text,
        searched=roles.searched[text[roles.searched]],
        held=roles.held[text[roles.held]],
    )
