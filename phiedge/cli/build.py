"""`phiedge build`: a bundle gets engines, for the machine that it stands on or for GPUs elsewhere."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiedge.cli.build_tensorrt_llm import build_for_tensorrt_llm
from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import BundleArgument, JsonOption, ThreadsOption
from phiedge.cli.verbs import verb_app

if TYPE_CHECKING:
    from phiedge.engines.engine_record import BuiltEngine
    from phiedge.engines.tensorrt.build_log import ProfileLog

app = verb_app()

_LAYERS = {"vision.layers.json": ("vision",), "decoder.layers.json": ("decoder, one row", "decoder, a chunk")}


@app.command()
def build(
    bundle: BundleArgument,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="onnxruntime for this machine's processor, tensorrt-rtx for GPUs elsewhere, tensorrt for this one's, "
            "edge-llm for a Jetson Orin elsewhere, tensorrt-llm for its server.",
        ),
    ] = "onnxruntime",
    sm: Annotated[
        str | None,
        typer.Option(
            "--sm",
            metavar="LIST",
            help="Compute capabilities for tensorrt-rtx: 86,89,120. By default that of the bundle's target.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    exporter: Annotated[
        Path | None,
        typer.Option(
            "--exporter",
            metavar="PYTHON",
            help="For edge-llm: the Python of an environment that has its exporter.",
            show_default=False,
        ),
    ] = None,
    install_exporter: Annotated[
        bool, typer.Option("--install-exporter", help="For edge-llm: download the exporter, once.")
    ] = False,
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels",
            metavar="DIR",
            help="For edge-llm: install the exporter from these files, without a network.",
            show_default=False,
        ),
    ] = None,
    tools_dir: Annotated[
        Path | None,
        typer.Option(
            "--tools-dir",
            metavar="DIR",
            help="For edge-llm: where the exporter is kept, by default in the user's cache.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make engines of a bundle: for this processor, or for NVIDIA GPUs.

    Without one, ONNX Runtime packs the weights for this processor into memory whenever the bundle is opened. An engine
    keeps them packed in a file that is mapped: the system shares its pages between processes and can drop them. It is
    tried before it gets its name: its answers must be those stored at export; where an export stored none, as the model
    was too large to try there, they are stored now, for `phiedge verify`.

    TensorRT-RTX builds for GPUs of the RTX series, and needs none for that; one engine serves SM 89 and 120. TensorRT
    builds for the GPU of this machine, as on a Jetson. Both take 2.4 times the decoder's weights of memory, and one
    thread unless --threads gives more. What they built is judged by what they tell of it; `phiedge verify` tries it on
    the GPU.

    For TensorRT-LLM it writes the checkpoint that the installed version takes, of the decoder, and has it loaded or
    built; where none is installed it says the command for a machine that has it.

    For Edge-LLM it writes, without a GPU, what NVIDIA's TensorRT Edge-LLM builds engines from on a Jetson Orin:
    the decoder by NVIDIA's exporter, which is kept in an environment of its own, the vision graph by phiedge. Both are
    held to the bundle, to the bit and in their numbers, before they get their name.

    An engine serves the version of the library and the kind of processor or GPU that it was built with, and no other;
    build it again there.

    \b
    Examples:
      phiedge build bundle
      phiedge build bundle --backend tensorrt-rtx --sm 86,89,120
      phiedge build bundle --backend edge-llm --install-exporter
    """
    if backend == "tensorrt-llm":
        build_for_tensorrt_llm(bundle, sm=sm, threads=threads, as_json=as_json)
        return
    from phiedge.engines.edge_llm.tool import ExporterChoice
    from phiedge.engines.tensorrt.families import parse_sms

    sms = None if sm is None else parse_sms(sm)
    choice = None
    if exporter or wheels or tools_dir or install_exporter:
        choice = ExporterChoice(python=exporter, tools=tools_dir, wheels=wheels, install=install_exporter)
    with held_interrupts():
        import phiedge.engines.onnxruntime.opening  # noqa: F401
    from phiedge.pipeline import build as run_build

    engines = run_build(
        bundle, backend=backend, sms=sms, threads=threads, exporter=choice, progress=terminal_progress()
    )
    if as_json:
        emit_json({"bundle": str(bundle), "engines": [_summary(engine) for engine in engines]})
    else:
        _show(engines)


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
        "profiles": [
            {
                "profile": name,
                "kernels": len(profile.kernels),
                "attentions": len(profile.attentions),
                "int4_products": profile.int4_products,
                "activation_bytes": profile.activation_bytes,
            }
            for name, profile in _profiles(engine)
        ],
    }


def _show(engines: "Sequence[BuiltEngine]") -> None:
    for engine in engines:
        record = engine.record
        rows = [
            ("backend", record.backend),
            *((name, version) for name, version in record.tools.items()),
            *((name, found) for name, found in record.machine.items()),
            *((name, chosen) for name, chosen in record.options.items()),
            *((name, _told(profile)) for name, profile in _profiles(engine)),
            ("size", f"{_bytes(engine) / 1e6:,.1f} MB in {len(record.files)} files"),
        ]
        show_table(None, ("", ""), rows)
        if record.goldens is not None:
            print("note: the export stored no goldens: what it answers was stored beside it, for `phiedge verify`")
        print(f"written to {engine.path}")
        _show_commands(engine)


def _show_commands(engine: "BuiltEngine") -> None:
    """What builds the engines on the device, for a backend that builds there; never run by phiedge."""
    from phiedge.engines.edge_llm.built import CHECKS

    if CHECKS in engine.record.files:
        print("on the device, in that directory, with TensorRT Edge-LLM (docs/guides/edge-llm.md):")
        for command in json.loads(engine.file(CHECKS).read_bytes())["commands"]:
            print(f"  {command}")


def _profiles(engine: "BuiltEngine") -> "list[tuple[str, ProfileLog]]":
    """What TensorRT told of the kernels of each profile; nothing for other engines."""
    from phiedge.engines.tensorrt.build_log import BuildLog

    told = []
    for file, names in _LAYERS.items():
        if file in engine.record.files:
            log = BuildLog.from_json(engine.file(file).read_text(encoding="utf-8"))
            told += list(zip(names, log.profiles, strict=True))
    return told


def _told(profile: "ProfileLog") -> str:
    int4 = f", {profile.int4_products} int4 products" if profile.int4_products else ""
    return (
        f"{len(profile.kernels)} kernels, {len(profile.attentions)} fused attentions{int4}, "
        f"{profile.activation_bytes / 1e6:,.1f} MB of activations"
    )


def _bytes(engine: "BuiltEngine") -> int:
    return sum(entry.bytes for entry in engine.record.files.values())
