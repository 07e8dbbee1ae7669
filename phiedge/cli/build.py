"""`phiedge build`: a bundle gets an engine for the machine that it stands on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiedge.cli.console import JsonOption, emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.verbs import verb_app

if TYPE_CHECKING:
    from phiedge.engines.engine_record import BuiltEngine

app = verb_app()


@app.command()
def build(
    bundle: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE", help="The directory that `phiedge export -o` wrote.", show_default=False),
    ],
    backend: Annotated[
        str,
        typer.Option("--backend", metavar="NAME", help="onnxruntime: ONNX Runtime on this machine's processor."),
    ] = "onnxruntime",
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", help="By default one for each physical core.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an engine of a bundle for the machine it stands on.

    Without one, ONNX Runtime packs the weights for this processor into memory whenever the bundle is opened. An engine
    keeps them packed in a file that is mapped: the system shares its pages between processes and can drop them. It is
    tried before it gets its name: its answers must be those stored at export; where an export stored none, as the model
    was too large to try there, they are stored now, for `phiedge verify`.

    An engine serves the version of ONNX Runtime and the kind of processor that it was built with, and no other; build
    it again there.

    \b
    Example:
      phiedge build bundle
    """
    with held_interrupts():
        import phiedge.engines.onnxruntime.opening  # noqa: F401
    from phiedge.pipeline import build as run_build

    engine = run_build(bundle, backend=backend, threads=threads, progress=terminal_progress())
    if as_json:
        emit_json(_summary(engine))
    else:
        _show(engine)


def _summary(engine: "BuiltEngine") -> dict[str, object]:
    record = engine.record
    return {
        "engine": str(engine.path),
        "backend": record.backend,
        "tools": dict(record.tools),
        "machine": dict(record.machine),
        "options": dict(record.options),
        "files": len(record.files),
        "bytes": _bytes(engine),
        "goldens": record.goldens,
    }


def _show(engine: "BuiltEngine") -> None:
    record = engine.record
    rows = [
        ("backend", record.backend),
        *((name, version) for name, version in record.tools.items()),
        *((name, found) for name, found in record.machine.items()),
        *((name, chosen) for name, chosen in record.options.items()),
        ("size", f"{_bytes(engine) / 1e6:,.1f} MB in {len(record.files)} files"),
    ]
    show_table(None, ("", ""), rows)
    if record.goldens is not None:
        print("note: the export stored no goldens: what this engine answers was stored beside it, for `phiedge verify`")
    print(f"written to {engine.path}")


def _bytes(engine: "BuiltEngine") -> int:
    return sum(entry.bytes for entry in engine.record.files.values())
