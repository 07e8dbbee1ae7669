"""Options that several verbs have: each is declared once, so that it is called and explained alike everywhere.

An option whose default or meaning a verb has for itself is declared there.
"""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

BundleArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="The directory that `phiedge export -o` wrote.", show_default=False)
]

BackendOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="On the CPU onnxruntime or openvino; on a GPU onnxruntime-cuda, tensorrt or tensorrt-rtx. By default what "
        "suits the bundle.",
        show_default=False,
    ),
]

ThreadsOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="By default one for each physical core.", show_default=False),
]

ContextOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--max-context",
        metavar="TOKENS",
        help="Room to keep for prompt, pictures and answer. By default what it was exported for.",
        show_default=False,
    ),
]

JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")
]

SysrootOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--sysroot",
        metavar="DIR",
        help="Look at the system whose files were copied below DIR, not at this one.",
        show_default=False,
    ),
]
