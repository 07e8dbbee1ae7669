"""`phiedge export`: a checkpoint becomes a bundle for a device."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiedge.cli.console import JsonOption, emit_json, show_table, terminal_progress
from phiedge.cli.verbs import verb_app
from phiedge.devices import find
from phiedge.errors import MissingExtraError

if TYPE_CHECKING:
    from phiedge.bundle import Bundle

app = verb_app()


@app.command()
def export(
    target: Annotated[
        str,
        typer.Option("--target", help="The device, as `phiedge devices list` prints it: orin, rtx, cpu, rtx-4090 ..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write.")] = Path("bundle"),
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="`reference` is the small model that comes with phiedge; otherwise the directory of a checkpoint, or a "
            "Hub id such as owner/name@revision.",
        ),
    ] = "reference",
    precision: Annotated[
        str, typer.Option("--precision", help="auto (what suits the target), fp32, fp16 or int4.")
    ] = "auto",
    calibration: Annotated[
        str, typer.Option("--calibration", help="none: int4 weights are rounded to nearest. Other methods are to come.")
    ] = "none",
    max_context: Annotated[
        int | None,
        typer.Option(
            "--max-context",
            help="Tokens of prompt, pictures and answer together. By default all that the model has, at most 8192.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a checkpoint into a bundle for a device.

    The bundle is a directory with everything the device needs: both graphs and their quantised weights, the embedding
    table, tokenizer and chat template, goldens to verify it with, and a report of what quantisation cost. It takes its
    name only when it is whole.

    Examples:

      phiedge export --target orin

      phiedge export --target cpu --precision fp32 --model ./my-checkpoint -o my-bundle
    """
    find(target)  # a wrong name is told before anything heavy is loaded
    try:
        from phiedge.pipeline import export as run_export
    except ModuleNotFoundError as error:
        raise MissingExtraError(what="phiedge export", extra="export", missing=error.name) from error

    bundle = run_export(
        model,
        target=target,
        output=output,
        precision=precision,
        calibration=calibration,
        max_context=max_context,
        overwrite=overwrite,
        progress=terminal_progress(),
    )
    report = json.loads((bundle.path / str(bundle.manifest.quantization)).read_bytes())
    if as_json:
        emit_json(_summary(bundle, report))
    else:
        _show(bundle, report)


def _summary(bundle: "Bundle", report: dict[str, Any]) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "target": manifest.target["name"],
        "model": manifest.model.name,
        "precision": manifest.precision.name,
        "group_size": manifest.precision.group_size,
        "max_context": max(dialect.max_context for dialect in manifest.dialects.values()),
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "notes": report["notes"],
        "end_to_end": report["end_to_end"],
        "accuracy": report["accuracy"],
    }


def _show(bundle: "Bundle", report: dict[str, Any]) -> None:
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
        ("activations", parts.activations),
        ("context", f"{max(dialect.max_context for dialect in manifest.dialects.values())} tokens"),
        ("size", f"{size_bytes / 1e6:,.1f} MB in {len(manifest.files)} files"),
    ]
    if report["end_to_end"]:
        agreement = report["end_to_end"]
        rows.append(
            (
                "beside fp32",
                f"logit cosine {agreement['cosine_mean']:.4f}, same next token {100 * agreement['top1_agreement']:.0f} %"
                f" of {agreement['positions']}",
            )
        )
    if report["accuracy"]:
        accuracy = report["accuracy"]
        rows.append(
            (
                "accuracy",
                f"{100 * accuracy['quantised']:.1f} % ({parts.name}), {100 * accuracy['fp32']:.1f} % (fp32),"
                f" {100 * accuracy['chance']:.0f} % (chance), {accuracy['asked']} questions",
            )
        )
    show_table(None, ("", ""), rows)
    for note in report["notes"]:
        print(f"note: {note}")
    print(f"written to {bundle.path}")
