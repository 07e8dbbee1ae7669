"""`phiedge run`: ask a bundle a question."""

import gc
import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from phiedge.cli.console import SHOWN_CONTROL, emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import BackendOption, BundleArgument, ContextOption, JsonOption, ThreadsOption
from phiedge.cli.realtime_option import RealtimeOption, listed_wishes, read_wishes, tell_wishes
from phiedge.cli.verbs import verb_app
from phiedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from phiedge.runtime.budget import Budget
    from phiedge.runtime.forms.form import Form
    from phiedge.runtime.prompt import ThinkMode
    from phiedge.runtime.result import Event, Result

app = verb_app()

_CUT_SHORT = {
    "length": "the answer is cut: it reached --max-new-tokens, or the end of the context",
    "deadline": "the answer is cut: its deadline came",
    "cancelled": "the answer is cut: it was cancelled",
}


@app.command()
def run(
    bundle: BundleArgument,
    prompt: Annotated[
        str,
        typer.Option("--prompt", "-p", metavar="TEXT", help="The question. `<image>` in it says where a picture goes."),
    ],
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "-i", metavar="FILE", help="A picture; give it again for more, in order."),
    ] = None,
    think: Annotated[
        str,
        typer.Option(
            "--think", metavar="MODE", help="auto (the model decides), on (reason first) or off (answer at once)."
        ),
    ] = "auto",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Stop after so many tokens.")
    ] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="X", help="0 always takes the likeliest token.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option("--top-p", metavar="X", help="With a temperature: the share of likelihood to draw from.")
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", help="With a temperature: the same seed, the same answer.", show_default=False
        ),
    ] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            "--deadline-ms", metavar="MS", help="The whole answer within so many milliseconds.", show_default=False
        ),
    ] = None,
    ttft_ms: Annotated[
        float | None,
        typer.Option(
            "--ttft-ms", metavar="MS", help="The first token within so many milliseconds.", show_default=False
        ),
    ] = None,
    token_ms: Annotated[
        float | None,
        typer.Option("--token-ms", metavar="MS", help="Each token within so many milliseconds.", show_default=False),
    ] = None,
    think_tokens: Annotated[
        int | None,
        typer.Option("--think-tokens", metavar="N", help="A ceiling on the thinking.", show_default=False),
    ] = None,
    answer_tokens: Annotated[
        int | None,
        typer.Option(
            "--answer-tokens", metavar="N", help="With a deadline: the room to keep for the answer.", show_default=False
        ),
    ] = None,
    on_infeasible: Annotated[
        str,
        typer.Option(
            "--on-infeasible",
            metavar="WHAT",
            help="What cannot be met: refuse it, degrade thinking and picture, or attempt it.",
        ),
    ] = "refuse",
    min_visual_tokens: Annotated[
        int | None,
        typer.Option(
            "--min-visual-tokens",
            metavar="N",
            help="With degrade: the fewest tokens that a picture may be seen with.",
            show_default=False,
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="FILE", help="An answer in JSON by this JSON Schema.", show_default=False),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option("--choice", metavar="TEXT", help="One of these answers; give it again for each."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern", metavar="REGEX", help="An answer that this regular expression matches.", show_default=False
        ),
    ] = None,
    box: Annotated[bool, typer.Option("--box", help="A place in the picture, [x1, y1, x2, y2] from 0 to 1.")] = False,
    point: Annotated[bool, typer.Option("--point", help="A point in the picture, [x, y] from 0 to 1.")] = False,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="Let a server of vLLM or TensorRT-LLM compute, that has a checkpoint of the bundle.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the time was planned and how it went.")] = False,
    max_context: ContextOption = None,
    threads: ThreadsOption = None,
    backend: BackendOption = None,
    realtime: RealtimeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a bundle a question, with or without pictures.

    The answer is printed as it comes, the thinking before it on stderr, and then where the time went. A question that
    does not fit the context is refused with the numbers.

    With a deadline the answer ends in time, cut if it must be; thinking is closed early enough to leave room for the
    answer. What cannot be met is refused before anything is computed, if `phiedge profile` has measured this machine.

    With --schema, --choice, --pattern, --box or --point the answer has that form, also where its deadline comes. This
    needs the extra `structured`.

    \b
    Examples:
      phiedge run bundle -i screen.png -p "What number is on the display?"
      phiedge run bundle -i before.png -i after.png -p "What has changed?"
      phiedge run bundle -i shelf.png -p "How many cans are there?" --json
      phiedge run bundle -i shelf.png -p "What is left?" --deadline-ms 800
      phiedge run bundle -i screen.png -p "Is it open?" --choice yes --choice no
    """
    with held_interrupts():
        from phiedge.runtime.remote.session import RemoteSession
        from phiedge.runtime.session import Session

    think_mode, progress = _think_mode(think), terminal_progress()
    times = {"deadline_ms": deadline_ms, "ttft_ms": ttft_ms, "token_ms": token_ms}
    counts = {"answer_tokens": answer_tokens, "think_tokens": think_tokens, "min_visual_tokens": min_visual_tokens}
    budget = _budget(times, counts, think_mode, on_infeasible)
    wishes = read_wishes(realtime)
    form = _form(schema, choice, pattern, box=box, point=point)
    if (box or point) and not image:
        raise UsageError(
            f"{'--box' if box else '--point'} names a place in the picture, and there is none",
            remedy="give the picture: --image FILE",
        )
    if explain and budget is None:
        raise UsageError("--explain tells how a budget was met, and there is none", remedy="give --deadline-ms")
    if server is not None:
        of_engines = {"--backend": backend, "--threads": threads, "--max-context": max_context, "--realtime": realtime}
        _check_server_options(of_engines, explain=explain)
    session: Session | RemoteSession
    with progress.task("open", 1, "bundle") as advance:
        if server is not None:
            session = RemoteSession.connect(server, bundle, budget=budget)
        else:
            session = Session.open(
                bundle, max_context=max_context, threads=threads, backend=backend, budget=budget, realtime=wishes
            )
        gc.freeze()  # all that was loaded stays: looking through it in the middle of the request would take 30 ms
        advance(1)
    with session:
        if form is not None:
            session.compile(form)  # part of opening: its first time builds tables, which is not the request's to pay
        events = session.stream(
            prompt,
            image or [],
            think=think_mode,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            form=form,
        )
        with progress.task("read", 1, "prompt") as advance:
            first = next(events)
            advance(1)
        if as_json:
            granted = {} if wishes is None else {"realtime": listed_wishes(session.realtime)}
            emit_json(_last(chain([first], events)).as_dict() | granted)
        else:
            tell_wishes(session.realtime)
            result = _print_as_it_comes(chain([first], events))
            _show(result)
            if explain:
                _explain(result)


def _check_server_options(options: "Mapping[str, object]", *, explain: bool) -> None:
    """Refuse what is of an engine in this process."""
    given = [name for name, value in options.items() if value is not None] + (["--explain"] if explain else [])
    if given:
        raise UsageError(
            f"{given[0]} is of an engine in this process, --server has the other compute",
            remedy=f"leave {given[0]} out",
        )


def _think_mode(word: str) -> "ThinkMode":
    from phiedge.runtime.prompt import ThinkMode

    if word not in get_args(ThinkMode):
        raise UsageError(f"there is no think mode {word!r}", remedy="use --think auto, on or off")
    return cast("ThinkMode", word)


def _budget(
    times: "Mapping[str, float | None]", counts: "Mapping[str, int | None]", think: "ThinkMode", on_infeasible: str
) -> "Budget | None":
    """The budget of these limits by their names, None where nothing is limited."""
    from phiedge.runtime.budget import Budget, OnInfeasible

    if all(limit is None for limit in (*times.values(), *counts.values())) and on_infeasible == "refuse":
        return None
    return Budget(
        deadline_ms=times["deadline_ms"],
        ttft_ms=times["ttft_ms"],
        token_ms=times["token_ms"],
        answer_tokens=counts["answer_tokens"],
        think=think,
        think_tokens=counts["think_tokens"],
        min_visual_tokens=counts["min_visual_tokens"],
        on_infeasible=cast("OnInfeasible", on_infeasible),
    )


def _form(
    schema: Path | None, choices: list[str] | None, pattern: str | None, *, box: bool, point: bool
) -> "Form | None":
    from phiedge.runtime.forms.form import BoxForm, ChoiceForm, PatternForm, PointForm

    makers = {
        "--schema": schema and partial(_schema_form, schema),
        "--choice": choices and partial(ChoiceForm, choices),
        "--pattern": None if pattern is None else partial(PatternForm, pattern),
        "--box": box and BoxForm,
        "--point": point and PointForm,
    }
    given = {name: maker for name, maker in makers.items() if maker}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are two forms of an answer", remedy="give one of them")
    return next((maker() for maker in given.values()), None)


def _schema_form(path: Path) -> "Form":
    from phiedge.runtime.forms.form import JsonForm

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}", remedy="give a file with a JSON Schema") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the schema {path} cannot be read: {error}", remedy="give a file with a JSON Schema"
        ) from error
    return JsonForm.parse(text)


def _last(events: "Iterable[Event]") -> "Result":
    result = None
    for event in events:
        result = event.result
    assert result is not None
    return result


def _print_as_it_comes(events: "Iterable[Event]") -> "Result":
    dim, plain = ("\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "")
    was_thinking, result = False, None
    for event in events:
        if event.kind == "thinking" and event.text:
            print(f"{dim}{event.text.translate(SHOWN_CONTROL)}{plain}", end="", file=sys.stderr, flush=True)
            was_thinking = True
        elif event.kind == "answer" and event.text:
            if was_thinking:
                print(file=sys.stderr, flush=True)
                was_thinking = False
            print(event.text.translate(SHOWN_CONTROL), end="", flush=True)
        result = event.result
    print(flush=True)
    assert result is not None
    return result


def _show(result: "Result") -> None:
    times, tokens = result.timings_ms, result.tokens
    read, steps = tokens.prompt + tokens.visual, max(0, len(result.token_ids) - 1)
    rows = [
        ("load", times.load, f"once per session, on {result.backend}"),
        ("preprocess", times.preprocess, ""),
        ("vision", times.vision, f"{tokens.visual} visual tokens"),
        ("prefill", times.prefill, f"{read} tokens" + _rate(read, times.prefill)),
    ]
    if times.first_token is not None:
        rows.append(("first token", times.first_token, "from the start of the request"))
    each = f", {times.decode / steps:.2f} ms each" if steps else ""
    rows.append(("decode", times.decode, f"{steps} step{'s' * (steps != 1)}{each}"))
    rows.append(("total", times.total, "without load"))
    print()
    show_table(None, ("", "ms", ""), [(name, f"{ms:,.1f}", note) for name, ms, note in rows], right="ms")
    if result.finish_reason in _CUT_SHORT:
        whole = "" if result.value is None else "; it was made to end there, and has its form"
        if result.made_up:
            whole = f"; it was given its form by force: no model chose {result.made_up!r}"
        print(f"note: {_CUT_SHORT[result.finish_reason]}{whole}", file=sys.stderr)
    if result.plan is not None and result.plan.unpromised is not None:
        print(
            f"note: nothing was promised, as {result.plan.unpromised}"
            + ("; measure it: phiedge profile BUNDLE" if result.plan.forecast is None else ""),
            file=sys.stderr,
        )


def _explain(result: "Result") -> None:
    plan, outcome = result.plan, result.outcome
    assert plan is not None
    assert outcome is not None
    print()
    for line in plan.explain():
        print(line)
    for line in outcome.explain():
        print(line)


def _rate(count: int, milliseconds: float) -> str:
    return f", {1000 * count / milliseconds:,.0f} per second" if milliseconds > 0 else ""
