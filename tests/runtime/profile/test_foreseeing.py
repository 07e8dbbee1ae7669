"""Plans by a bundle's profile, without a session: what admission would say."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.profile.foreseeing import Foreseen, Wanted, foresee
from phiedge.runtime.profile.identity import Identity, identity_here
from phiedge.runtime.profile.store import Fit, Profile, write_profile
from timed_engines import latency_model


@pytest.fixture
def bundle(oracle_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(oracle_bundle.path, tmp_path / "bundle"))


@pytest.fixture
def here(bundle: Bundle) -> Identity:
    return identity_here(bundle, LoadedModel(bundle, max_context=None, threads=1, chunk_tokens=16), threads=1)


def stored(bundle: Bundle, identity: Identity) -> None:
    fit = Fit(
        requests=3, median_error=0.01, p95_error=0.1, median_error_as_forecast=0.01, p95_error_as_forecast=0.1,
        within=1.0,
    )  # fmt: skip
    found = Profile(identity=identity, model=latency_model(), fit=fit, seconds=1.0, load_average=(0.0, 0.1))
    write_profile(bundle, found)


def asked(bundle: Bundle, deadline_ms: float | None = None, **changes: object) -> list[Foreseen]:
    facts = bundle.manifest.facts
    wanted = Wanted(
        facts=facts, max_context=512, sizes=((64, 64),), prompt_tokens=30, answer_tokens=8, deadline_ms=deadline_ms
    )
    return foresee(bundle, replace(wanted, **changes))


def test_a_bundle_without_a_profile_foresees_nothing(bundle: Bundle) -> None:
    assert asked(bundle) == []


def test_a_deadline_that_is_told_to_be_promised_is_kept_and_one_below_is_refused(
    bundle: Bundle, here: Identity
) -> None:
    stored(bundle, here)
    (found,) = asked(bundle)
    assert found.elsewhere == ()
    forecast = found.free.forecast
    assert forecast is not None
    (kept,) = asked(bundle, deadline_ms=1.01 * forecast.total)
    assert kept.kept is not None
    assert kept.kept.forecast == forecast
    (refused,) = asked(bundle, deadline_ms=0.99 * forecast.total, sizes=())
    assert refused.kept is not None  # without its picture it is faster
    (refused,) = asked(bundle, deadline_ms=0.5)
    assert refused.kept is None
    assert refused.refused is not None
    assert "cannot be met" in refused.refused.message


def test_a_profile_of_another_machine_says_so_and_comes_last(bundle: Bundle, here: Identity) -> None:
    stored(bundle, replace(here, machine={**here.machine, "processor": "Other"}))
    stored(bundle, here)
    mine, other = asked(bundle)
    assert mine.elsewhere == ()
    assert other.elsewhere[0].startswith("processor Other, here ")
    assert mine.free == other.free
