"""The builtin examples as samples of one model, for the context that a bundle is exported for.

Pictures take at most half of the context, so that a question, a thought and an answer fit beside them. Where a model
enlarges every picture to more than that, or a text is too long, the example is left out.
"""

from phiedge.calibration.samples import FEWEST_ROWS, Sample
from phiedge.errors import InputError, UsageError
from phiedge.pipeline.builtin_examples import BUILTIN_EXAMPLES, builtin_examples
from phiedge.pipeline.calibration_samples import HELD_OUT_EVERY, CalibrationSource, SampleBuilder

BUILTIN = "builtin"
MOST_EXAMPLES = 4096


def builtin_count(calibration: str) -> int | None:
    """How many examples "builtin" or "builtin:COUNT" asks for; None for the name of a file. Raises `UsageError`."""
    name, colon, count = calibration.partition(":")
    if name != BUILTIN:
        return None
    if not colon:
        return BUILTIN_EXAMPLES
    if not count.isascii() or not count.isdecimal() or not HELD_OUT_EVERY <= int(count) <= MOST_EXAMPLES:
        raise UsageError(
            f"--calibration {calibration} asks for no number of examples from {HELD_OUT_EVERY} to {MOST_EXAMPLES}",
            remedy=f"--calibration {BUILTIN} takes {BUILTIN_EXAMPLES}, {BUILTIN}:512 four times as many",
        )
    return int(count)


def builtin_samples(source: CalibrationSource, *, max_context: int, count: int = BUILTIN_EXAMPLES) -> list[Sample]:
    """Samples of `count` builtin examples, or of those that fit. Raises `InputError` where too few do."""
    config = source.config
    most = max(1, min(config.max_num_patches, max_context // 2))
    examples = builtin_examples(patch_size=config.patch_size, max_patches=most, count=count)
    samples = SampleBuilder(source, max_context=max_context).build_fitting(examples)
    rows = sum(sample.rows for sample in samples if not sample.held_out)
    if len(samples) < HELD_OUT_EVERY or rows < FEWEST_ROWS:
        raise InputError(
            f"{len(samples)} of {count} builtin examples fit a context of {max_context}, with {rows} rows to "
            f"calibrate on; at least {HELD_OUT_EVERY} and {FEWEST_ROWS} are needed",
            remedy="give a larger --max-context, or short examples of your own: --calibration FILE.jsonl",
        )
    return samples
