"""`phiedge verify`: is every byte of a bundle as it was written, and does it still answer as it did at export?"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from phiedge.bundle import Bundle, Problem
from phiedge.bundle.reading import UNLISTED_DIRECTORIES
from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import BackendOption, BundleArgument, JsonOption
from phiedge.cli.verbs import verb_app
from phiedge.engines.engine_record import built_engines
from phiedge.progress import Progress

if TYPE_CHECKING:
    from phiedge.runtime.goldens import GoldenCheck

app = verb_app()


@app.command()
def verify(
    bundle: BundleArgument,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a bundle, and its answers against those stored at export.

    The manifest is checked first, then the hash of every file, then whether the report tells of these weights, then
    the numbers that this machine computes are compared with the goldens of the export. Engines were made later, with
    hashes of their own, which are checked, too; profiles are listed only.

    Exit code 0 if all is as it was written, 1 if anything is not.
    """
    if backend is not None:
        from phiedge.engines.backends import check_backend

        check_backend(backend)
    opened = Bundle.open(bundle)
    progress = terminal_progress()
    problems = opened.check_files(progress)
    for engine in built_engines(opened):
        problems += engine.check_files(progress)
    if not problems:
        problems = _check_report(opened, progress)
    goldens = _check_goldens(opened, backend, progress) if not problems else None
    ok = not problems and all(row.ok for row in goldens or ())
    if as_json:
        emit_json(_report(opened, problems, goldens, ok=ok))
    else:
        _show(opened, problems, goldens, ok=ok)
    if not ok:
        raise typer.Exit(1)


def _check_report(bundle: Bundle, progress: Progress) -> list[Problem]:
    if bundle.manifest.quantization is None:
        return []
    from phiedge.pipeline.report_agreement import check_report

    return check_report(bundle, progress)


def _check_goldens(bundle: Bundle, backend: str | None, progress: Progress) -> "list[GoldenCheck] | None":
    with held_interrupts():
        import phiedge.runtime.session  # noqa: F401
    from phiedge.runtime.goldens import check, find

    return check(bundle, backend=backend, progress=progress) if find(bundle) is not None else None


def _shown(difference: float | None) -> str:
    return "no number" if difference is None else f"{difference:.2e}"


def _unlisted(bundle: Bundle) -> dict[str, list[str]]:
    return {name: _visible(bundle.path / name) for name in UNLISTED_DIRECTORIES}


def _visible(directory: Path) -> list[str]:
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


def _report(
    bundle: Bundle, problems: list[Problem], goldens: "list[GoldenCheck] | None", *, ok: bool
) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "ok": ok,
        "schema_version": manifest.schema_version,
        "phiedge_version": manifest.phiedge_version,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "problems": [asdict(problem) for problem in problems],
        "goldens": None if goldens is None else [asdict(row) for row in goldens],
        **_unlisted(bundle),
    }


def _show(bundle: Bundle, problems: list[Problem], goldens: "list[GoldenCheck] | None", *, ok: bool) -> None:
    entries = bundle.manifest.files.values()
    if problems:
        rows = [(problem.kind, problem.path, problem.detail) for problem in problems]
        show_table(f"{bundle.path} is not as it was written:", ("", "file", "detail"), rows)
        print("The answers were not compared with those of the export.")
    else:
        print(f"{len(entries)} files, {sum(entry.bytes for entry in entries) / 1e6:,.1f} MB: every byte as written.")
    if goldens is not None:
        golden_rows = [
            (row.name, _shown(row.max_abs_diff), f"{row.tolerance:.0e}", "same" if row.ok else "DIFFERENT")
            for row in goldens
        ]
        show_table(None, ("golden", "difference", "allowed", ""), golden_rows, right="difference allowed")
    elif not problems:
        print("It stores no goldens: its answers could not be compared. `phiedge build` stores them with an engine.")
    for name, made in _unlisted(bundle).items():
        if made:
            print(f"{name} made since the export: {', '.join(made)}")
    print("verified" if ok else "NOT verified")
