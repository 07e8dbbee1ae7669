"""The builtin examples as samples of one model, for the context that a bundle is exported for.

Pictures take at most half of the context, so that a question, a thought and an answer fit beside them. Where a model
enlarges every picture to more than that, or a text is too long, the example is left out.
"""

from phiedge.calibration.samples import FEWEST_ROWS, Sample
from phiedge.errors import InputError
from phiedge.pipeline.builtin_examples import BUILTIN_EXAMPLES, builtin_examples
from phiedge.pipeline.calibration_samples import HELD_OUT_EVERY, CalibrationSource, SampleBuilder


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
