"""`phiedge export`: a checkpoint becomes a bundle for a device."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import JsonOption
from phiedge.cli.verbs import verb_app
from phiedge.devices import find
from phiedge.devices.memory_limits import require_memory
from phiedge.errors import UsageError

if TYPE_CHECKING:
    from phiedge.bundle import Bundle, Manifest

app = verb_app()

# Measured for the 15B on two cores, torch and the trace of 40 layers included: 0.69 GB resident at most, and 1.38 GB
# mapped. Smaller models take about the same; each thread has a stack and an arena of its own.
_RESIDENT_BYTES, _MAPPED_BYTES, _MAPPED_PER_THREAD_BYTES = 1_000_000_000, 1_300_000_000, 80_000_000
_MOST_THREADS = 8
PAGE_FILE = "quantization.html"  # beside the report's data, in every bundle


@app.command()
def export(
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", metavar="DEVICE", help="As `phiedge devices list` names it: orin, rtx, cpu, rtx-4090 ..."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="`reference` (the small model that comes with phiedge), a checkpoint's directory, or a Hub id such as "
            "owner/name@revision.",
        ),
    ] = "reference",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The bundle to write.")] = Path(
        "bundle"
    ),
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="auto (what suits the device), fp32, fp16, fp8 or int4.")
    ] = "auto",
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            metavar="DATA",
            help="What int4 weights are fitted to, and fp8 is measured on: none (round to nearest), builtin (128 "
            "generated pictures and texts), builtin:COUNT (as many), or a FILE.jsonl with your own.",
        ),
    ] = "none",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Of calibration: auto (the best of all for each linear), rtn, awq, gptq or awq+gptq.",
        ),
    ] = "auto",
    weight_scales: Annotated[
        str,
        typer.Option(
            "--weight-scales",
            metavar="NAME",
            help="At fp8, what has a scale: each row of a weight, or the whole tensor, as TensorRT-LLM on RTX 40 and "
            "50 and Edge-LLM on Thor read it.",
        ),
    ] = "row",
    linears_mb: Annotated[
        float | None,
        typer.Option(
            "--linears-mb",
            metavar="MB",
            help="With calibration: give the decoder's linears that need it most more bits, until all take so many MB.",
            show_default=False,
        ),
    ] = None,
    kv_cache: Annotated[
        str,
        typer.Option(
            "--kv-cache",
            metavar="NAME",
            help="What keys and values are kept as: float (as the graphs compute), or int8, a quarter of float32.",
        ),
    ] = "float",
    vision_precision: Annotated[
        str,
        typer.Option(
            "--vision-precision",
            metavar="NAME",
            help="What vision encoder and projector multiply in: float (as --precision says), int8, or fp8.",
        ),
    ] = "float",
    max_context: Annotated[
        int | None,
        typer.Option(
            "--max-context",
            metavar="TOKENS",
            help="Room for prompt, pictures and answer together. By default all that the model has, at most 8192.",
            show_default=False,
        ),
    ] = None,
    also: Annotated[
        str | None,
        typer.Option(
            "--also",
            metavar="LIST",
            help="Checkpoints for other engines, each beside the bundle: awq, modelopt, compressed-tensors, "
            "trtllm-legacy.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle that is there.")] = False,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="A dry run: MODEL is a directory with config.json, its weights random."),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Of the random weights. By default 0.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a checkpoint into a bundle for a device.

    The bundle is a directory with everything that the device needs: both graphs and their quantised weights, the
    embedding table, tokenizer and chat template, goldens to verify it with, and a report of what quantisation cost. It
    takes its name only when it is whole.

    \b
    Examples:
      phiedge export --target orin
      phiedge export -t cpu -m ./checkpoint --precision fp32 -o my-bundle
      phiedge export -t orin -m ./small-files --random-weights -o dry-run
    """
    find(target)  # a wrong name is told before anything heavy is loaded
    random_seed = _random_seed(random_weights, seed)
    formats = [] if also is None else [name.strip() for name in also.split(",")]
    _require_memory()
    progress = terminal_progress()
    with progress.task("load", 1, "exporter") as advance:
        with held_interrupts():
            import phiedge.engines.onnxruntime.opening  # noqa: F401
        from phiedge.pipeline import export as run_export

        advance(1)
    took_s: list[float] = []
    bundle = run_export(
        model,
        target=target,
        output=output,
        precision=precision,
        calibration=calibration,
        method=method,
        weight_scales=weight_scales,
        kv_cache=kv_cache,
        vision_precision=vision_precision,
        linears_mb=linears_mb,
        max_context=max_context,
        overwrite=overwrite,
        random_seed=random_seed,
        also=formats,
        notice=_notice,
        calibration_took_s=took_s.append,
        progress=progress,
    )
    report = json.loads((bundle.path / str(bundle.manifest.quantization)).read_bytes())
    calibration_s = sum(took_s) if took_s else None
    if as_json:
        # Not in the bundle: the same input gives the same bytes.
        more = {"calibration_s": calibration_s, "also": [str(_beside(output, kind)) for kind in formats]}
        emit_json(_summary(bundle, report) | more)
        return
    _show(bundle, report, output, calibration_s)
    for kind in formats:
        print(f"also written: {_beside(output, kind)}")


def _beside(output: Path, kind: str) -> Path:
    return output.with_name(f"{output.name}.{kind}")


def _random_seed(random_weights: bool, seed: int | None) -> int | None:
    """The seed of weights that are to be random, or None where they are to be read."""
    if seed is not None and not random_weights:
        raise UsageError("--seed is for random weights", remedy="add --random-weights, or leave --seed out")
    return (seed or 0) if random_weights else None


def _require_memory() -> None:
    """Refuse at once what would fail in the middle, after the checkpoint has been read for minutes."""
    threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    require_memory(
        "an export",
        resident_bytes=_RESIDENT_BYTES,
        mapped_bytes=_MAPPED_BYTES + threads * _MAPPED_PER_THREAD_BYTES,
        remedy="raise the limit, or export on another machine: a bundle can be copied",
    )


def _notice(said: str) -> None:
    print(f"note: {said}", file=sys.stderr)


def _summary(bundle: "Bundle", report: dict[str, Any]) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "target": manifest.target["name"],
        "model": manifest.model.name,
        "precision": manifest.precision.name,
        "group_size": manifest.precision.group_size,
        "kv_cache": manifest.precision.cache,
        "vision": manifest.precision.vision,
        "max_context": manifest.max_context,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "report": str(bundle.path / PAGE_FILE),
        "notes": report["notes"],
        "end_to_end": report["end_to_end"],
        "accuracy": report["accuracy"],
    }


def _show(bundle: "Bundle", report: dict[str, Any], output: Path, calibration_s: float | None) -> None:
    manifest, parts = bundle.manifest, bundle.manifest.precision
    group = f", groups of {parts.group_size}" if parts.group_size else ""
    size_bytes = sum(entry.bytes for entry in manifest.files.values())
    rows = [
        ("model", manifest.model.name),
        ("for", str(manifest.target["title"])),
        ("vision", parts.vision),
        ("decoder", parts.decoder + group),
        ("lm_head", parts.lm_head + (group if parts.lm_head.startswith("int") else "")),
        ("embeddings", parts.embed_tokens),
        *(("computed in", told) for told in _told_activations(manifest)),
        *(("cache", told) for told in [parts.cache] if told is not None),
        ("context", f"{manifest.max_context} tokens"),
        ("size", f"{size_bytes / 1e6:,.1f} MB in {len(manifest.files)} files"),
    ]
    if report["end_to_end"]:
        rows.append(("beside fp32", _told_agreement(report["end_to_end"])))
    if report["accuracy"]:
        rows.append(("accuracy", _told_accuracy(report["accuracy"], parts.name)))
    if calibration_s is not None:
        rows.append(("calibration", _told_time(calibration_s)))
    show_table(None, ("", ""), rows)
    for note in report["notes"]:
        print(f"note: {note}")
    print(f"what quantisation cost: {output / PAGE_FILE}")
    print(f"written to {output}")


def _told_time(seconds: float) -> str:
    return f"took {seconds:.1f} s" if seconds < 100 else f"took {seconds / 60:,.1f} min"


def _told_activations(manifest: "Manifest") -> list[str]:
    """A line for each type that graphs of the bundle compute in, with their dialects."""
    by_type: dict[str, list[str]] = {}
    for name, dialect in manifest.dialects.items():
        by_type.setdefault(dialect.activations, []).append(name)
    return [f"{activations} ({', '.join(names)})" for activations, names in by_type.items()]


def _told_agreement(agreement: dict[str, Any]) -> str:
    same = f"same next token in {100 * agreement['top1_agreement']:.0f} % of {agreement['positions']}"
    return f"logit cosine {agreement['cosine_mean']:.4f}, {same}"


def _told_accuracy(accuracy: dict[str, Any], precision: str) -> str:
    shares = {precision: accuracy["quantised"], "fp32": accuracy["fp32"], "chance": accuracy["chance"]}
    told = ", ".join(f"{100 * share:.1f} % ({name})" for name, share in shares.items())
    return f"{told}, {accuracy['asked']} questions"
