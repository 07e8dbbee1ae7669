"""`export`: open the checkpoint, write the graphs, quantise, try the result, and give the bundle its name.

Nothing is visible under the bundle's name before all of it is there. A long export that was interrupted or killed goes
on where it was when the same is asked for again (docs/decisions/0404-how-are-weights-streamed.md).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from phiedge.bundle import Bundle, BundleWriter
from phiedge.calibration.int4 import RoundToNearest
from phiedge.devices import Device, find
from phiedge.devices.planning.fit import require_fit
from phiedge.errors import BundleError, CheckpointError, ExportError, PromptError, SessionError, UsageError
from phiedge.exporters.checkpoint import TEMPLATE_FILE, TOKENIZER_FILE, open_checkpoint
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import PrecisionChoice, PrecisionPlan, choose_precision
from phiedge.exporters.quantised import Quantiser
from phiedge.exporters.random_weights import open_random_weights
from phiedge.exporters.source import ModelSource
from phiedge.pipeline.builtin_samples import builtin_count
from phiedge.pipeline.cache_calibrating import (
    FLOAT,
    CachePlan,
    check_kv_cache,
    remove_scales,
    scales_directory,
    scales_for_export,
    with_cache,
)
from phiedge.pipeline.calibrating import (
    NONE,
    ROW,
    Calibrated,
    calibrate_for_export,
    calibration_directory,
    check_calibration,
    check_units,
    check_weight_scales,
    compute_type,
    is_calibrated,
)
from phiedge.pipeline.calibration_samples import CalibrationSource
from phiedge.pipeline.contents import describe, dialects_for, write_contents
from phiedge.pipeline.golden_questions import golden_questions
from phiedge.pipeline.mixing import Mixed, check_budget
from phiedge.pipeline.repacking import check_also, check_held, write_also
from phiedge.pipeline.report import QUANTIZATION_FILE, begin_report, compare, is_tried, open_trial, write_report
from phiedge.pipeline.vision_calibrating import (
    CalibratedVision,
    calibrate_vision_for_export,
    check_vision_precision,
    remove_vision,
    vision_directory,
    with_vision,
)
from phiedge.progress import Progress, silent
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.goldens import GOLDENS_FILE, Golden, record, save
from phiedge.runtime.prompt import PromptBuilder
from phiedge.runtime.session import Session
from phiedge.runtime.tokens import Tokenizer

DEFAULT_CONTEXT = 8192


def export(
    model: str = "reference",
    *,
    target: str,
    output: Path,
    precision: str = "auto",
    calibration: str = "none",
    method: str = "auto",
    weight_scales: str = ROW,
    kv_cache: str = FLOAT,
    vision_precision: str = FLOAT,
    linears_mb: float | None = None,
    max_context: int | None = None,
    overwrite: bool = False,
    random_seed: int | None = None,
    also: Sequence[str] = (),
    notice: Callable[[str], None] = lambda said: None,
    calibration_took_s: Callable[[float], None] = lambda seconds: None,
    progress: Progress = silent,
) -> Bundle:
    """Export `model` ("reference", a checkpoint directory or a Hub id) for the device `target` into `output`.

    `max_context` bounds prompt, pictures and answer together, in tokens; by default it is what the model has positions
    for, at most 8192. `calibration` is "none", "builtin", "builtin:COUNT" or the path of a file of examples
    (`calibration_file.py`);
    `method` bounds how hard it tries ("auto", "rtn", "awq", "gptq": see `phiedge.calibration.methods.CHOICES`).
    `weight_scales` is what has a scale at fp8: each "row" of a weight, or the whole "tensor", which more engines read.
    `kv_cache` is what keys and values are kept as: "float", as the graphs compute, or "int8"
    (`cache_calibrating.py`); `vision_precision` is what the vision graph's linears are: "float", as the precision has
    them, "int8" or "fp8" (`vision_calibrating.py`). With `linears_mb`, the decoder's linears that need it most get more
    bits, until all take so many megabytes (`mixing.py`). An existing bundle is replaced only with `overwrite`. The same
    input gives the same bytes. With `random_seed` the weights are made up, and `model` is a directory that needs no
    more than a config.json. `also` names checkpoint formats for other engines (`repacking.py`), each written beside the
    bundle. `notice` is told what a person should know that is not about the bundle: that an unfinished one had to be
    thrown away. `calibration_took_s` is told the seconds that this call calibrated, where it did: they are not in the
    bundle.

    Raises `UsageError` (`UnknownDeviceError`), `DeviceError` where the device cannot hold the model, `CheckpointError`,
    `ExportError`, `BundleError`.
    """
    device = find(target)
    # What does not exist is refused before a checkpoint is opened.
    check_units(device, precision)
    cache = check_kv_cache(kv_cache, device)
    asked = with_cache(choose_precision(precision, sm=device.sm_number), cache)
    vision = check_vision_precision(vision_precision, device, asked.plan)
    asked = with_vision(asked, vision)
    each = check_weight_scales(weight_scales, asked.plan)
    check_calibration(calibration, method, asked.plan)
    check_budget(linears_mb, calibrated=calibration != NONE, plan=asked.plan, also=also)
    check_also(also, output, overwrite=overwrite)

    def chosen(config: ModelConfig) -> PrecisionChoice:
        choice = choose_precision(precision, sm=device.sm_number, widths=config.linear_widths)
        return with_vision(with_cache(choice, cache), vision)

    def fits(config: ModelConfig) -> None:
        _require_fit(config, device, chosen(config).plan, max_context)

    # The writer first: a name that is taken is refused before anything is fetched.
    with (
        BundleWriter(output, overwrite=overwrite, resume=True) as writer,
        closing(_open(model, random_seed, fits)) as source,
    ):
        source.check()
        _check_prompts(source)
        choice = chosen(source.config)
        check_held(also, choice.plan, output)
        max_context = _context(source.config, max_context)
        fits(source.config)
        begun_ns = time.perf_counter_ns()
        calibrated: Calibrated | None = None
        mixed: Mixed | None = None
        if calibration != NONE and is_calibrated(choice.plan):
            calibrated = calibrate_for_export(
                source,
                choice.plan,
                calibration,
                calibration_directory(output),
                method=method,
                weight_scales=each,
                max_context=max_context,
                progress=progress,
            )
            mixed = calibrated.mixed(choice.plan, linears_mb, progress)
            if mixed is not None:
                choice = replace(choice, plan=mixed.plan)
                _require_fit(source.config, device, choice.plan, max_context)
        cached = _cache_scales(source, choice.plan, calibrated, calibration, output, max_context, progress)
        seeing = _calibrated_vision(source, choice.plan, calibration, output, max_context, progress)
        if calibrated is not None or cached is not None or seeing is not None:
            calibration_took_s((time.perf_counter_ns() - begun_ns) / 1e9)
        written = write_contents(
            source if calibrated is None else calibrated.source(choice.plan),
            choice.plan,
            dialects=dialects_for(device, choice.plan),
            max_context=max_context,
            directory=writer.path,
            quantiser=_quantiser(calibrated, seeing),
            cache_scales=None if cached is None or choice.plan.cache is None else cached.graph_scales(),
            activation_scales=None if calibrated is None else calibrated.activation_scales(),
            vision_scales=None if seeing is None else seeing.input_scales(),
            notice=notice if writer.resumable else None,
            require_space=writer.require_space,
            progress=progress,
        )
        writer.know(written.entries)
        manifest = describe(source, choice.plan, written, device, progress)
        report = begin_report(source, choice, written)
        for part in (calibrated, mixed, seeing):
            if part is not None:
                part.add_to(report)
        if cached is not None:
            cached.add_to(report, choice.plan.cache)
        if is_tried(source):
            with open_trial(writer.preview(manifest, progress), source) as session:
                goldens = _record(session, progress)
                compare(report, source, choice, session, goldens, progress)
            save(goldens, writer.path / GOLDENS_FILE)
            manifest = replace(manifest, goldens=GOLDENS_FILE)
        write_report(report, manifest, writer.path)
        bundle = writer.commit(replace(manifest, quantization=QUANTIZATION_FILE), progress)
    if calibrated is not None:
        calibrated.remove()
    remove_scales(output)
    remove_vision(output)
    write_also(bundle, also, overwrite=overwrite, progress=progress)
    return bundle


def _file_of(calibration: str) -> str | None:
    """The file of examples; None where there are only the builtin ones, which a cache and a vision graph also take."""
    return None if calibration == NONE or builtin_count(calibration) is not None else calibration


def _cache_scales(
    source: CalibrationSource,
    plan: PrecisionPlan,
    calibrated: Calibrated | None,
    calibration: str,
    output: Path,
    max_context: int,
    progress: Progress,
) -> CachePlan | None:
    """The scales that calibration found on its way, or those of a run of their own where a cache needs some."""
    if calibrated is not None:
        return calibrated.cache_plan()
    if plan.cache is None:
        return None
    return scales_for_export(
        source,
        _file_of(calibration),
        scales_directory(output),
        compute=compute_type(source),
        max_context=max_context,
        progress=progress,
    )


def _calibrated_vision(
    source: CalibrationSource,
    plan: PrecisionPlan,
    calibration: str,
    output: Path,
    max_context: int,
    progress: Progress,
) -> CalibratedVision | None:
    """The codes and scales of a vision graph in 8 bits, where the plan has one."""
    if plan.vision_linears is None:
        return None
    return calibrate_vision_for_export(
        source,
        plan.vision_linears,
        _file_of(calibration),
        vision_directory(output),
        max_context=max_context,
        progress=progress,
    )


def _quantiser(calibrated: Calibrated | None, seeing: CalibratedVision | None) -> Quantiser | None:
    """What chooses codes; None where all that has any is rounded to nearest."""
    of_decoder = None if calibrated is None else calibrated.quantiser()
    return of_decoder if seeing is None else seeing.quantiser(of_decoder or RoundToNearest())


def _open(model: str, random_seed: int | None, fits: Callable[[ModelConfig], None]) -> CalibrationSource:
    return open_checkpoint(model, accept=fits) if random_seed is None else open_random_weights(model, seed=random_seed)


def _context(config: ModelConfig, max_context: int | None) -> int:
    return min(config.max_position_embeddings, DEFAULT_CONTEXT) if max_context is None else max_context


def _require_fit(config: ModelConfig, device: Device, plan: PrecisionPlan, max_context: int | None) -> None:
    """Refuse a model that the device cannot hold; of a Hub id, before its weights are fetched."""
    require_fit(
        device,
        config.facts(),
        plan.record(embed_tokens="bfloat16"),
        activations="float32" if plan.decoder == "float32" else "float16",
        max_context=_context(config, max_context),
    )


def _check_prompts(source: ModelSource) -> None:
    """See that tokenizer and template make a prompt together, before hours go into the weights."""
    facts = source.config.facts()
    try:
        tokenizer = Tokenizer(source.path / TOKENIZER_FILE, facts)
        prompts = PromptBuilder(ChatTemplate.read(source.path / TEMPLATE_FILE), tokenizer, facts)
        prompts.chat("What is this?", images=1, think="on")
    except (BundleError, PromptError) as error:
        raise CheckpointError(
            f"{source.path} makes no prompt: {error.message}",
            remedy="take tokenizer.json and chat_template.jinja from the repository that the weights came from",
        ) from error


def _record(session: Session, progress: Progress) -> list[Golden]:
    """The goldens of the questions that fit the bundle's context."""
    try:
        goldens = record(session, golden_questions(), progress=progress)
    except (SessionError, BundleError) as error:
        raise ExportError(
            f"the bundle does not compute what can be used: {error.message}",
            remedy="export with --precision fp32; if that fails, too, the checkpoint is damaged",
        ) from error
    if not goldens:
        raise UsageError(
            f"a context of {session.max_context} tokens does not hold even a short question",
            remedy="--max-context 1024 or more",
        )
    return goldens
