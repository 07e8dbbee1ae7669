"""`phiedge bench`: how fast a bundle is on this machine, beside what the machine could do at best."""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import typer

from phiedge.bundle import Bundle
from phiedge.cli.bench_table import show_report
from phiedge.cli.console import emit_json, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import BackendOption, BundleArgument, ContextOption, JsonOption, ThreadsOption
from phiedge.cli.verbs import verb_app
from phiedge.errors import MissingExtraError, UsageError

app = verb_app()

PLOT_SUFFIXES = (".svg", ".png", ".pdf")


@app.command()
def bench(
    bundle: BundleArgument,
    contexts: Annotated[
        str | None,
        typer.Option(
            "--contexts",
            metavar="N,N,...",
            help="Decode at these contexts. By default 64, 256, 1024, ... and the largest.",
            show_default=False,
        ),
    ] = None,
    prefill: Annotated[
        str | None,
        typer.Option(
            "--prefill",
            metavar="N,N,...",
            help="Compute prompts of so many tokens. By default as --contexts, as far as time allows.",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            "--pictures",
            metavar="WxH,...",
            help="Encode pictures of these sizes. By default 256x256, 640x480, 1280x720, as far as time allows.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="About how long to measure, without opening.")
    ] = 60.0,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="At most so many tokens at one context.")] = 500,
    max_context: ContextOption = None,
    chunk_tokens: Annotated[
        int, typer.Option("--chunk-tokens", metavar="N", help="Compute prompts so many tokens at a time.")
    ] = 256,
    threads: ThreadsOption = None,
    backend: BackendOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Also draw it: .svg, .png or .pdf (extra `plot`).", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast a bundle is on this machine, beside what the machine could do at best.

    Every time stands beside its limit: the bytes that it must read over the bandwidth of memory, or its arithmetic over
    the rate of products, whichever takes longer. Both rates are measured, before and after. Measure on a machine that
    does nothing else.

    What is named by an option is measured at least once, however long it takes.

    \b
    Examples:
      phiedge bench bundle
      phiedge bench bundle --contexts 512,4096 --steps 2000 --plot bench.svg
      phiedge bench bundle --pictures 1280x720 --seconds 600 --json
    """
    destination = None if plot is None else check_plot(plot)
    opened = Bundle.open(bundle)
    with held_interrupts():
        from phiedge.runtime.bench import bench as run_bench
        from phiedge.runtime.bench import plan_bench
        from phiedge.runtime.loaded_model import session_context
    plan = plan_bench(
        opened.manifest.facts,
        max_context=session_context(opened, max_context),
        contexts=_numbers("--contexts", contexts),
        prefill=_numbers("--prefill", prefill),
        pictures=None if pictures is None else pictures.split(","),
        steps=steps,
        seconds=seconds,
    )
    report = run_bench(
        opened,
        plan,
        max_context=max_context,
        threads=threads,
        chunk_tokens=chunk_tokens,
        backend=backend,
        progress=terminal_progress(),
    )
    if destination is not None:
        with held_interrupts():
            from phiedge.cli.bench_plot import draw
        draw(report, destination)
    if as_json:
        emit_json(report.as_dict())
    else:
        show_report(report)
        if destination is not None:
            print(f"\ndrawn to {destination}")


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """The whole numbers of an option, separated by commas."""
    if text is None:
        return None
    words = text.split(",")
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            raise UsageError(f"{option} {text!r}: {word!r} is not a number of tokens", remedy=f"as in {option} 64,1024")
    return tuple(map(int, words))


def check_plot(path: Path) -> Path:
    """Refuse a plot that could not be drawn or written, before anything is measured."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise UsageError(f"{path} does not end as a picture does", remedy=f"use one of {', '.join(PLOT_SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise MissingExtraError(what="--plot", extra="plot", missing="matplotlib")
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """Refuse a file that could not be written, before anything is measured."""
    directory = path.parent
    if path.is_dir() or not directory.is_dir():
        wrong = f"{path} is a directory" if path.is_dir() else f"there is no directory {directory}"
        raise UsageError(wrong, remedy="name a file in a directory that exists")
    try:
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(
            f"nothing can be written to {directory}: {(error.strerror or str(error)).lower()}",
            remedy="name a file in a directory that you may write to",
        ) from error
    return path
