"""Latency profiles in a bundle: `profiles/<backend>-<digest of the identity>/latency.json`, whole or not there.

A profile is found by the identity of this machine, and by nothing else. One of another machine, power mode or version
is not used; why not is told.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.bundle.paths import locate
from phiedge.bundle.record import decode, encode
from phiedge.bundle.writing import flush
from phiedge.errors import BundleError, SchemaError
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.profile.identity import Identity, identity_here

DIRECTORY, RECORD_NAME, SCHEMA_VERSION = "profiles", "latency.json", 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How far a prediction lies from what was measured afterwards, where nothing had been measured before.

    Of requests, relative errors of the usual time: by the profile alone, and `as_forecast` in a session, which knows
    how the requests before fared (`runtime/drift.py`). `within` is the share that took no longer than the high time.
    """

    requests: int
    median_error: float
    p95_error: float
    median_error_as_forecast: float
    p95_error_as_forecast: float
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is stored. `load_average` was the machine's at the start and the end of measuring."""

    schema_version: int = SCHEMA_VERSION
    identity: Identity
    model: LatencyModel
    fit: Fit
    seconds: float
    load_average: tuple[float, float]

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise SchemaError(
                f"the profile has schema {self.schema_version}, this phiedge reads {SCHEMA_VERSION}",
                remedy="measure again: phiedge profile; or use the phiedge that has measured it",
            )


def write_profile(bundle: Bundle, profile: Profile) -> Path:
    """Store a profile under its identity, in place of an earlier one."""
    path = path_of(bundle, profile.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{RECORD_NAME}.partial-{os.getpid()}")
    try:
        partial.write_text(json.dumps(encode(profile), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)
    return path


def read_profile(path: Path) -> Profile:
    """Read a profile strictly. Raises `BundleError` (`SchemaError`)."""
    remedy = f"measure it again (phiedge profile), or remove {path}"
    try:
        return decode(Profile, json.loads(path.read_bytes()), RECORD_NAME)
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}", remedy=remedy) from error
    except BundleError as error:
        raise type(error)(f"{path}: {error.message}", remedy=remedy) from error


def profile_for(bundle: Bundle, model: LoadedModel, *, threads: int | None) -> Profile | str:
    """The profile of this machine, or why there is none. Raises `BundleError` for one that does not read."""
    return find_profile(bundle, identity_here(bundle, model, threads=threads))


def find_profile(bundle: Bundle, here: Identity) -> Profile | str:
    """The profile of the machine `here`, or why there is none. Raises `BundleError` for one that does not read."""
    path = path_of(bundle, here)
    if path.is_file():
        profile = read_profile(path)
        differences = profile.identity.differences(here)
        return f"its profile was moved: {differences[0]}" if differences else profile
    others = [profile.identity.differences(here) for profile in stored_profiles(bundle)]
    if not others:
        return "the bundle has no latency profile of this machine"
    return f"the bundle's latency profile is of something else: {'; '.join(min(others, key=len)[:2])}"


def stored_profiles(bundle: Bundle) -> list[Profile]:
    """All profiles of a bundle that read, whatever they are of."""
    paths = sorted((bundle.path / DIRECTORY).glob(f"*/{RECORD_NAME}"))
    return [profile for profile in map(_read_if_it_reads, paths) if profile is not None]


def _read_if_it_reads(path: Path) -> Profile | None:
    try:
        return read_profile(path)
    except BundleError:  # only to tell about others; one that is used is read strictly
        return None


def path_of(bundle: Bundle, identity: Identity) -> Path:
    """Where the profile of that identity is, if there is one."""
    # One that another phiedge wrote in another form lies elsewhere, and is not in the way.
    named = [SCHEMA_VERSION, encode(identity)]
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:12]
    return locate(bundle.path, f"{DIRECTORY}/{identity.backend}-{digest}/{RECORD_NAME}", "profiles")
