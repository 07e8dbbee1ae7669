"""`phiedge repack`: a bundle as a checkpoint that other engines load."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.cli.options import BundleArgument, JsonOption
from phiedge.cli.verbs import verb_app

app = verb_app()


@app.command()
def repack(
    bundle: BundleArgument,
    kind: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="awq, modelopt, compressed-tensors or trtllm-legacy."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The checkpoint to write. By default BUNDLE.NAME, beside the bundle.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoint that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle as a checkpoint that other engines load, without rounding its weights again.

    \b
      awq                 TensorRT Edge-LLM on Orin, vLLM: the decoder
      modelopt            TensorRT-LLM and its server: the decoder
      compressed-tensors  vLLM: the whole model, with its eyes
      trtllm-legacy       trtllm-build, up to TensorRT-LLM 1.2: the decoder

    Codes and scales are those of the bundle, in the order that the format has them. What a reader of the format would
    take for something else is refused. It takes its name only when it is whole. docs/guides/ecosystem.md says what each
    engine does with it.

    \b
    Examples:
      phiedge repack bundle --format awq
      phiedge repack bundle --format compressed-tensors -o served/phi-4
    """
    from phiedge.pipeline import repack as run_repack

    written = run_repack(bundle, kind, output=output, overwrite=overwrite, progress=terminal_progress())
    summary = summarise(written)
    if as_json:
        emit_json({"bundle": str(bundle), **summary})
        return
    show_table(
        None, ("", ""), [("format", kind), ("size", f"{summary['bytes'] / 1e6:,.1f} MB in {summary['files']} files")]
    )
    print(f"written to {written}")


def summarise(checkpoint: Path) -> dict[str, Any]:
    """What is said of a checkpoint that was written."""
    from phiedge.exporters.checkpoints.directory import RECORD_NAME

    record = json.loads((checkpoint / RECORD_NAME).read_bytes())
    files = record["files"].values()
    return {
        "format": record["format"],
        "checkpoint": str(checkpoint),
        "files": len(files),
        "bytes": sum(file["bytes"] for file in files),
    }
