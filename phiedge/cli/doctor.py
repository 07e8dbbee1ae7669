"""`phiedge doctor`: what on this machine makes answers late, and the command that mends it."""

from dataclasses import asdict

import typer

from phiedge.cli.console import emit_json
from phiedge.cli.options import JsonOption, SysrootOption
from phiedge.cli.verbs import verb_app
from phiedge.devices.doctor import diagnose
from phiedge.devices.probe.probing import check_sysroot, probe_surfaces
from phiedge.devices.probe.surfaces import surfaces_of

app = verb_app()

_SAID = {"now": "costs time now", "risk": "will cost time some day"}


@app.command()
def doctor(sysroot: SysrootOption = None, as_json: JsonOption = False) -> None:
    """Say what on this machine makes answers late.

    Each finding comes with its reason and the command that mends it; nothing is changed. The exit code is 0 where
    nothing was found and 1 otherwise. What the system does not tell to you is listed as unknown, and does not count.

    \b
    Examples:
      phiedge doctor
      phiedge doctor --json
    """
    check_sysroot(sysroot)
    surfaces = surfaces_of(sysroot)
    found = probe_surfaces(surfaces)
    diagnosis = diagnose(found, surfaces)
    if as_json:
        emit_json({"device": found.identity.device, **asdict(diagnosis)})
    else:
        print(f"device: {found.identity.device or 'unknown'} ({found.identity.why})")
        for finding in diagnosis.findings:
            print(f"\n{finding.name}, {_SAID[finding.when]}: {finding.what}")
            print(f"  why: {finding.why}")
            print(f"  fix: {finding.fix}")
        if not diagnosis.findings:
            print("nothing was found that makes answers late")
        if diagnosis.unknown:
            print(f"\nunknown here: {', '.join(diagnosis.unknown)}")
    if diagnosis.findings:
        raise typer.Exit(1)
