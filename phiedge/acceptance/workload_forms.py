"""The form that a workload asks its answers in, from the keys of a spec to a form of the runtime."""

from pathlib import Path

from phiedge.acceptance.spec import Workload
from phiedge.errors import UsageError
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, Form, JsonForm, PatternForm, PointForm


def form_of(workload: Workload, directory: Path) -> Form | None:
    """The form of its answers, None where they are free; a schema is named from `directory`. Raises `UsageError`."""
    try:
        return _form(workload, directory)
    except UsageError as error:
        raise UsageError(f"workload {workload.name!r}: {error.message}", remedy=error.remedy) from error


def _form(workload: Workload, directory: Path) -> Form | None:
    if workload.choice is not None:
        return ChoiceForm(workload.choice)
    if workload.pattern is not None:
        return PatternForm(workload.pattern)
    if workload.schema is not None:
        return JsonForm.parse(_read(directory / workload.schema))
    if workload.box:
        return BoxForm()
    return PointForm() if workload.point else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"the schema {path} cannot be read: {(why or '').lower()}",
            remedy="schemas are named from the directory of the spec",
        ) from error
