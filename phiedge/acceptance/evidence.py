"""The evidence of an acceptance test: one JSON file with all that the verdict rests on, sealed by a hash.

The seal tells an edited file from one that was written here. Who can run phiedge can seal anew: a signature
(`signing`) tells who did.
"""

import contextlib
import datetime
import hashlib
import json
import math
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiedge import __version__
from phiedge.acceptance.campaign import Campaign
from phiedge.acceptance.judgement import Judgement
from phiedge.acceptance.openings import Openings
from phiedge.acceptance.spec_reading import SpecFile
from phiedge.bundle import Bundle, hash_file
from phiedge.devices.host import host
from phiedge.devices.probe import probe
from phiedge.errors import IntegrityError, SchemaError

SCHEMA = "phiedge.evidence/2"

_OUTSIDE = ("seal", "signature")  # of what the seal is over


def evidence(
    spec: SpecFile,
    campaign: Campaign,
    judgement: Judgement,
    *,
    bundle: Bundle | None,
    openings: Openings | None = None,
) -> dict[str, Any]:
    """All of it, with its seal. `openings` is what the sessions told of themselves."""
    told = Openings() if openings is None else openings
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "phiedge_version": __version__,
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "verdict": judgement.verdict,
        "reasons": list(judgement.reasons),
        "notes": list(judgement.notes),
        "ended": campaign.ended,
        "failure": campaign.failure,
        "bundle": None if bundle is None else _subject(bundle) | {"profiles_used": told.profiles},
        "spec": {
            "sha256": spec.sha256,
            "content": asdict(spec.spec),
            "forms": {
                name: dict(zip(("grammar", "text"), form.grammar, strict=True)) for name, form in spec.forms.items()
            },
        },
        "realtime": told.wishes(),
        "machine": asdict(host()),
        "device": _device(),
        "environment": asdict(campaign.watched) | {"coload": asdict(campaign.loads)},
        "opened_ms": list(campaign.opened_ms),
        "cold_start_ms": list(campaign.cold_start_ms),
        "budgets": [_budget(asdict(one)) for one in judgement.budgets],
        "steadiness": {name: found and asdict(found) for name, found in judgement.steadiness.items()},
        "samples": {name: [asdict(sample) for sample in found] for name, found in campaign.samples.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(_finite(record), allow_nan=False))
    return plain | {"seal": seal_of(plain)}


def seal_of(record: dict[str, Any]) -> str:
    """The sha256 of everything but the seal and its signature, in one fixed way of writing JSON."""
    content = {key: value for key, value in record.items() if key not in _OUTSIDE}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_evidence(record: dict[str, Any], path: Path) -> None:
    """Write it whole or not at all."""
    write_whole(json.dumps(record, indent=1, allow_nan=False) + "\n", path)


def read_evidence(path: Path) -> dict[str, Any]:
    """Read evidence back. Raises `SchemaError` and `IntegrityError`."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(
            f"{path} is not JSON: {error}", remedy="name a file that `phiedge accept` wrote"
        ) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise SchemaError(f"{path} has the schema {found!r}, this version reads {SCHEMA!r}")
    if record.get("seal") != seal_of(record):
        raise IntegrityError(
            f"{path} is not as it was written: its seal is {record.get('seal')}, its content gives {seal_of(record)}",
            remedy="use the file as `phiedge accept` wrote it, or run the test again",
        )
    return record


def write_whole(text: str, path: Path) -> None:
    """Write a file beside `path` and move it there; on an error nothing stays behind, and what was there remains."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _subject(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.path / "manifest.json"
    return {
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "model": bundle.manifest.model.name,
        "precision": bundle.manifest.precision.name,
        "target": dict(bundle.manifest.target),
        "profiles": {
            str(path.relative_to(bundle.path)): hash_file(path)
            for path in sorted(bundle.path.glob("profiles/*/*.json"))
        },
    }


def _device() -> dict[str, Any]:
    """Which device of the catalogue it is, or why none is named, and what it tells of itself."""
    found = probe()
    return {
        "identity": asdict(found.identity),
        "kernel": found.kernel,
        "jetson": None if found.jetson is None else asdict(found.jetson),
        "gpus": [{"name": gpu.name, "driver": gpu.driver} for gpu in found.gpus.found],
    }


def _budget(judged: dict[str, Any]) -> dict[str, Any]:
    clusters = (judged["strength"] or {}).get("clusters")
    if clusters is not None:
        clusters["rho"] = clusters["again"] / clusters["after_miss"] if clusters["after_miss"] else None
    return judged


def _finite(value: Any) -> Any:
    """JSON has no infinity: a bound beyond all samples is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
