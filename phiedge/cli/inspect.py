"""`phiedge inspect`: what is in a bundle, without opening it."""

from typing import Annotated

import typer

from phiedge.bundle import Bundle
from phiedge.cli.console import emit_json
from phiedge.cli.inspect_tables import show_inspection
from phiedge.cli.options import BundleArgument, JsonOption
from phiedge.cli.verbs import verb_app

app = verb_app()


@app.command()
def inspect(
    bundle: BundleArgument,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Also every layer, all inputs and outputs, and the kinds of an engine's kernels."
        ),
    ] = False,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="NAME",
            help="Only vision, decoder, embeddings, positions, tokenizer, template, goldens, report or engines, with "
            "all that there is to say; give it again for more.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a bundle: its parts, graphs, layers, engines, and where they came from.

    Nothing is opened and no weight is read, so it takes as long for a large model as for a small one, and needs neither
    a GPU nor the memory that the model takes. Files are there with their sizes, or it is an error; `phiedge verify`
    checks their bytes. For each engine it says whether anything is in its way on this machine.

    Exit code 0, or 1 if an engine is damaged.

    \b
    Examples:
      phiedge inspect bundle
      phiedge inspect bundle --layers
      phiedge inspect bundle --part decoder --part engines
      phiedge inspect bundle --json
    """
    from phiedge.pipeline.inspection import check_parts, inspect_bundle, only

    names = part or []
    check_parts(names)
    found = inspect_bundle(Bundle.open(bundle))
    if names:
        found = only(found, names)
    if as_json:
        emit_json(found.as_dict())
    else:
        show_inspection(found, details=layers or bool(names), whole_hashes=bool(names))
    if found.damaged_engines:
        raise typer.Exit(1)
