"""`phiedge accept`: does a bundle on this machine keep its latency budget?"""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiedge.bundle import Bundle
from phiedge.cli.bench import check_writable
from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import BackendOption, ContextOption, JsonOption, ThreadsOption
from phiedge.cli.realtime_option import RealtimeOption, read_wishes
from phiedge.cli.verbs import verb_app
from phiedge.devices import find
from phiedge.errors import UsageError

if TYPE_CHECKING:
    from phiedge.acceptance.spec_reading import SpecFile
    from phiedge.runtime.realtime import RealtimePolicy

app = verb_app()

_COLD_PROMPT = "Hello."


@app.command()
def accept(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="The directory that `phiedge export -o` wrote.", show_default=False),
    ] = None,
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC.toml", help="What it must keep.", show_default=False)
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Print a commented spec to begin with, and nothing else.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="DEVICE",
            help="With --init: for this device, as `phiedge devices list` names it.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check", metavar="FILE", help="Check the seal of evidence and show its verdict.", show_default=False
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key", metavar="FILE", help="With --check: also check who signed it.", show_default=False
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="KEY",
            help="Sign the evidence with this private key (extra `sign`).",
            show_default=False,
        ),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(
            "--new-key",
            metavar="FILE",
            help="Make a key to sign with, FILE, and FILE.pub to check with; nothing else.",
            show_default=False,
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            metavar="FILE",
            help="Where the evidence goes. By default beside the spec.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a report to read.", show_default=False)
    ] = None,
    max_context: ContextOption = None,
    threads: ThreadsOption = None,
    backend: BackendOption = None,
    realtime: RealtimeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test whether a bundle on this machine keeps its latency budget, and keep the evidence.

    The exit code is the verdict: 0 PASS, 1 FAIL, 3 INCONCLUSIVE (with what would decide), 4 INVALID (the machine was
    not as the spec asks). Ctrl-C keeps what was measured so far, marked.

    \b
    Examples:
      phiedge accept --init -t orin > accept.toml
      phiedge accept bundle accept.toml --html report.html
      phiedge accept bundle accept.toml --junit accept.xml --json
      phiedge accept --check accept.evidence.json --html report.html
      phiedge accept --new-key team.key
      phiedge accept bundle accept.toml --sign team.key
      phiedge accept --check accept.evidence.json --public-key team.key.pub
    """
    if new_key is not None:
        _make_key(new_key)
        return
    if public_key is not None and check is None:
        raise UsageError("--public-key checks evidence", remedy="name it: --check accept.evidence.json")
    if target is not None and not init:
        raise UsageError("--target belongs to --init", remedy="what is tested is the machine at hand")
    if init:
        print(_template(target), end="")
        return
    reports = {kind: check_writable(path) for kind, path in (("junit", junit), ("html", html)) if path is not None}
    if check is not None:
        _check(check, public_key, reports, as_json=as_json)
        return
    if bundle is None or spec is None:
        raise UsageError("a bundle and a spec are needed", remedy="`phiedge accept --init > accept.toml` writes a spec")
    with held_interrupts():
        from phiedge.acceptance.spec_reading import read_spec
    read = read_spec(spec)
    destination = check_writable(evidence if evidence is not None else spec.with_suffix(".evidence.json"))
    if sign is not None:
        from phiedge.acceptance.signing import check_private_key

        check_private_key(sign)
    wishes = read_wishes(realtime)
    opened = Bundle.open(bundle)
    record = _measure(opened, read, wishes, max_context=max_context, threads=threads, backend=backend)
    if sign is not None:
        from phiedge.acceptance.signing import signed

        record = signed(record, sign)
    destination = _write(record, destination, reports)
    if record["ended"] == "interrupted":
        raise KeyboardInterrupt(f"what was measured until then is in {destination}, marked as interrupted")
    _tell(record, destination, checked=sign is not None, as_json=as_json)


def _measure(
    bundle: Bundle,
    read: "SpecFile",
    wishes: "RealtimePolicy | None",
    *,
    max_context: int | None,
    threads: int | None,
    backend: str | None,
) -> dict[str, Any]:
    with held_interrupts():
        from phiedge.acceptance.campaign import run_campaign
        from phiedge.acceptance.cold_start import Start, cold_starter
        from phiedge.acceptance.environment import LinuxWatcher
        from phiedge.acceptance.evidence import evidence
        from phiedge.acceptance.judgement import judge
        from phiedge.acceptance.openings import Openings
        from phiedge.acceptance.requester import session_opener
        from phiedge.acceptance.sensors import Sensors
    openings = Openings()
    opener = session_opener(
        bundle,
        read.directory,
        max_context=max_context,
        threads=threads,
        backend=backend,
        cases=read.cases,
        forms=read.forms,
        realtime=wishes,
        openings=openings,
    )
    prompt = read.spec.workloads[0].prompt or _COLD_PROMPT
    start = Start(
        bundle=str(bundle.path),
        prompt=prompt,
        max_context=max_context,
        threads=threads,
        backend=backend,
        realtime=wishes,
    )
    campaign = run_campaign(
        read.spec,
        opener,
        LinuxWatcher(read.spec.preconditions, sensors=Sensors()),
        cases={name: len(found) for name, found in read.cases.items()},
        cold_start=cold_starter(start),
        progress=terminal_progress(),
    )
    return evidence(read, campaign, judge(read.spec, campaign), bundle=bundle, openings=openings)


def _write(record: dict[str, Any], destination: Path, reports: dict[str, Path]) -> Path:
    """Write everything; gives where the evidence is. What was measured for hours is not lost to a full disk."""
    from phiedge.acceptance.evidence import write_evidence

    try:
        write_evidence(record, destination)
    except OSError as error:
        refuge = Path(tempfile.gettempdir()) / f"phiedge-{os.getpid()}-{destination.name}"
        write_evidence(record, refuge)
        print(f"note: {destination} cannot be written ({error.strerror}): it is {refuge}", file=sys.stderr)
        destination = refuge
    _write_reports(record, reports)
    return destination


def _write_reports(record: dict[str, Any], reports: dict[str, Path]) -> None:
    from phiedge.acceptance.evidence import write_whole

    if "junit" in reports:
        from phiedge.acceptance.junit import junit

        write_whole(junit(record), reports["junit"])
    if "html" in reports:
        from phiedge.acceptance.html_report import html_report

        write_whole(html_report(record), reports["html"])


def _template(target: str | None) -> str:
    """The spec to begin with; for a device of the catalogue, with what is planned there."""
    from phiedge.acceptance.spec_template import ANSWER_TOKENS, PROMPT_TOKENS, TEMPLATE, template_for

    device = None if target is None else find(target)
    if device is None or device.sm is None:
        return TEMPLATE
    from phiedge.cli.plan import Planner, plan_task

    task = plan_task(None, ["none"], PROMPT_TOKENS, ANSWER_TOKENS, None, None)
    time = Planner(task, None, "auto").plan(device).time
    return template_for(device, first_token_ms=time.first_token.planned_ms, total_ms=time.total.planned_ms)


def _check(path: Path, public_key: Path | None, reports: dict[str, Path], *, as_json: bool) -> None:
    from phiedge.acceptance.evidence import read_evidence

    record = read_evidence(path)
    if public_key is not None:
        from phiedge.acceptance.signing import check_signature

        check_signature(record, public_key)
    _write_reports(record, reports)
    _tell(record, path, checked=public_key is not None, as_json=as_json)


def _make_key(path: Path) -> None:
    from phiedge.acceptance.signing import new_key

    public = new_key(path)
    print(f"{path} signs: keep it to yourself\n{public} checks: give it to whoever reads the evidence")


def _tell(record: dict[str, Any], destination: Path, *, checked: bool = False, as_json: bool) -> None:
    """Show the verdict and leave with its exit code."""
    from phiedge.acceptance.judgement import EXIT_CODES

    if as_json:
        told = {key: value for key, value in record.items() if key != "samples"}
        emit_json(told | {"evidence": str(destination)})
    else:
        print(record["verdict"])
        for reason in record["reasons"]:
            print(f"  {reason}")
        for note in record["notes"]:
            print(f"  note: {note}")
        for wish in next(iter(record.get("realtime", [])), []):
            print(f"  realtime {wish['wish']}: {wish['status']}, {wish['detail']}")
        print()
        rows = [(one["workload"], one["budget"], one["verdict"], _quantile(one)) for one in record["budgets"]]
        show_table(None, ("workload", "budget", "verdict", "shown"), rows, right=["shown"])
        print(f"\nevidence in {destination}{_say_signature(record.get('signature'), checked=checked)}")
    raise typer.Exit(EXIT_CODES[record["verdict"]])


def _quantile(judged: dict[str, Any]) -> str:
    """What the limit is of, with its unit: latencies lie between bounds, a peak is one number."""
    lower, upper, unit = judged["bounds"]["lower"], judged["bounds"]["upper"], judged["unit"]
    if unit == "bytes":
        return "?" if upper is None else f"{upper / 2**20:,.0f} MiB"
    low, high = (None if value is None else 100 * value if unit == "share" else value for value in (lower, upper))
    return f"{'?' if low is None else f'{low:.4g}'} to {'?' if high is None else f'{high:.4g}'} " + (
        "%" if unit == "share" else "ms"
    )


def _say_signature(signature: dict[str, Any] | None, *, checked: bool) -> str:
    if signature is None:
        return ""
    if checked:
        return f", signed by {signature['key']}"
    return f", said to be signed by {signature['key']}: check it with --public-key"
