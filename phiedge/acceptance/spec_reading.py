"""Reading a spec from TOML, strictly: an unknown key is an error with the nearest name, and nothing is converted."""

import hashlib
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from phiedge.acceptance.budgets import AccuracyBudget, ColdStartBudget, JitterBudget, LatencyBudget, MemoryBudget
from phiedge.acceptance.cases import Case, read_cases
from phiedge.acceptance.preconditions import CoLoad, Preconditions
from phiedge.acceptance.spec import Arrival, Spec, Statistics, Workload
from phiedge.acceptance.weakly_hard import WeaklyHard
from phiedge.acceptance.workload_forms import form_of
from phiedge.errors import UsageError, nearest
from phiedge.runtime.forms.form import Form

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "phiedge.accept/1"

Record = TypeVar("Record")

_TABLES = (
    "schema",
    "workload",
    "budget",
    "jitter",
    "accuracy",
    "memory",
    "cold_start",
    "statistics",
    "environment",
    "coload",
)
# What people write by habit, and the key with its unit that is meant.
_UNITS = ("_ms", "_hz", "_bytes", "_mhz_min", "_gbps")
_NESTED = {Arrival, WeaklyHard}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """A spec, the directory that its pictures are named from, the hash of its text, and by workload its cases and the
    form of its answers."""

    spec: Spec
    directory: Path
    sha256: str
    cases: Mapping[str, tuple[Case, ...]] = field(default_factory=dict)
    forms: Mapping[str, Form] = field(default_factory=dict)


def read_spec(path: Path) -> SpecFile:
    """Read the spec at `path`. Raises `UsageError` for whatever in it is not understood."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the spec {path} cannot be read: {(error.strerror or str(error)).lower()}",
            remedy=f"`phiedge accept --init > {path.name}` writes one to begin with",
        ) from error
    try:
        text = data.decode("utf-8")
        table = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", remedy="see https://toml.io") from error
    spec = parse_spec(table)
    for workload in spec.workloads:
        for picture in workload.pictures:
            if not (path.parent / picture).is_file():
                raise UsageError(
                    f"workload {workload.name!r}: there is no picture {path.parent / picture}",
                    remedy="pictures are named from the directory of the spec",
                )
    cases = {
        workload.name: read_cases(workload.cases, path.parent)
        for workload in spec.workloads
        if workload.cases is not None
    }
    forms = {workload.name: form_of(workload, path.parent) for workload in spec.workloads}
    return SpecFile(
        spec=spec,
        directory=path.parent,
        sha256=hashlib.sha256(data).hexdigest(),
        cases=cases,
        forms={name: form for name, form in forms.items() if form is not None},
    )


def parse_spec(table: dict[str, Any]) -> Spec:
    """The spec in what `tomllib.loads` gave."""
    _refuse_unknown("the spec", table, _TABLES)
    if table.get("schema") != SCHEMA:
        raise UsageError(
            f"the spec is of the schema {table.get('schema')!r}, this version reads {SCHEMA!r}",
            remedy=f'begin the file with schema = "{SCHEMA}"',
        )
    return Spec(
        workloads=_records(Workload, table, "workload"),
        budgets=_records(LatencyBudget, table, "budget"),
        jitters=_records(JitterBudget, table, "jitter"),
        accuracies=_records(AccuracyBudget, table, "accuracy"),
        memory=_records(MemoryBudget, table, "memory"),
        cold_start=_record(ColdStartBudget, table["cold_start"], "[cold_start]") if "cold_start" in table else None,
        statistics=_record(Statistics, table.get("statistics", {}), "[statistics]"),
        preconditions=_record(Preconditions, table.get("environment", {}), "[environment]"),
        coload=_record(CoLoad, table.get("coload", {}), "[coload]"),
    )


def _records(kind: type[Record], table: dict[str, Any], name: str) -> tuple[Record, ...]:
    found = table.get(name, [])
    if not isinstance(found, list):
        raise UsageError(f"{name} must be a list of tables", remedy=f"write [[{name}]], with two brackets")
    return tuple(_record(kind, item, f"[[{name}]] {place}") for place, item in enumerate(found, start=1))


def _record(kind: type[Record], table: object, where: str) -> Record:
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table, not {table!r}")
    hints = get_type_hints(kind)
    _refuse_unknown(where, table, tuple(hints))
    for one in fields(cast(Any, kind)):
        if one.name not in table and one.default is MISSING:
            raise UsageError(f"{where} lacks {one.name}", remedy="`phiedge accept --init` shows what there is")
    return kind(**{key: _value(hints[key], value, f"{where} {key}") for key, value in table.items()})


def _refuse_unknown(where: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key in known:
            continue
        stem = key.rpartition("_")[0] or key
        with_unit = [name for name in known if name.endswith(_UNITS) and name.rpartition("_")[0] in (key, stem)]
        close = with_unit or nearest(key, known, count=1)
        raise UsageError(
            f"{where} has an unknown key {key!r}",
            remedy=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}",
        )


def _value(kind: Any, value: object, where: str) -> object:
    origin = get_origin(kind)
    if origin is Union or origin is types.UnionType:
        return _value(next(part for part in get_args(kind) if part is not type(None)), value, where)
    if origin is Literal:
        if value not in get_args(kind):
            close = nearest(value, get_args(kind), count=1) if isinstance(value, str) else []
            raise UsageError(
                f"{where} must be one of {', '.join(map(repr, get_args(kind)))}, not {value!r}",
                remedy=f"did you mean {close[0]!r}?" if close else None,
            )
        return value
    if kind in _NESTED:
        return _record(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list, not {value!r}")
        return tuple(_value(get_args(kind)[0], item, where) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where} must be of type {kind.__name__}, not {value!r}")
    return value
