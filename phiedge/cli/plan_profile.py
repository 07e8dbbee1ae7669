"""What `phiedge plan --bundle` shows of the profiles in a bundle: times that were measured, and what admission says."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from phiedge.cli.console import show_table
from phiedge.cli.plan_table import Measured
from phiedge.engines.backends import DEFAULT_BACKEND, OPENVINO_BACKEND
from phiedge.runtime.plan import Plan
from phiedge.runtime.profile.foreseeing import Foreseen

_PARTS = ("preprocess", "vision", "prefill", "first_token", "answer", "total")
_NAMES = ("preparing", "pictures", "prompt", "first token", "answer", "all")
_OF_PROCESSORS = (DEFAULT_BACKEND, OPENVINO_BACKEND)


def measured_verdict(found: Sequence[Foreseen]) -> Measured | None:
    """What the soonest profile of this machine's processor says: `foresee` puts the soonest first."""
    here = [one for one in found if not one.elsewhere and one.profile.identity.backend in _OF_PROCESSORS]
    if not here:
        return None
    one = here[0]
    verdict: Literal["promised", "refused"] | None = None
    if one.kept is not None or one.refused is not None:
        verdict = "refused" if one.kept is None else "promised"
    return Measured(backend=one.profile.identity.backend, verdict=verdict)


def show_foreseen(found: Sequence[Foreseen]) -> None:
    """Print what each profile says."""
    for one in found:
        forecast, identity = one.free.forecast, one.profile.identity
        assert forecast is not None
        print(f"\nby the profile of {identity.backend} on {identity.machine.get('processor', '?')}: {_place(one)}")
        rows = [(name, f"{getattr(forecast, part):.1f}") for part, name in zip(_PARTS, _NAMES, strict=True)]
        rows.insert(4, ("a token", f"{one.token.high_ms:.1f}"))
        show_table(None, ("part", "seldom above, ms"), rows, right=("seldom above, ms",))
        print(
            f"usually {forecast.usual_first_token:.1f} ms to the first token and {forecast.usual_total:.1f} ms in all; "
            f"deadline_ms {_up(forecast.total)} and ttft_ms {_up(forecast.first_token)} can be promised"
        )
        _show_deadline(one)


def foreseen_as_dict(one: Foreseen) -> dict[str, Any]:
    """JSON-ready values."""
    forecast, identity = one.free.forecast, one.profile.identity
    assert forecast is not None
    return {
        "backend": identity.backend,
        "machine": dict(identity.machine),
        "of_this_machine": not one.elsewhere,
        "otherwise_here": list(one.elsewhere),
        "high_ms": {part: getattr(forecast, part) for part in _PARTS} | {"token": one.token.high_ms},
        "usual_ms": {
            "first_token": forecast.usual_first_token,
            "token": one.token.usual_ms,
            "total": forecast.usual_total,
        },
        "promised": {"deadline_ms": _up(forecast.total), "ttft_ms": _up(forecast.first_token)},
        "kept": _plan_as_dict(one.kept),
        "refused": None if one.refused is None else str(one.refused),
        "degraded": _plan_as_dict(one.degraded),
    }


def _plan_as_dict(plan: Plan | None) -> dict[str, Any] | None:
    return None if plan is None else asdict(plan)


def _show_deadline(one: Foreseen) -> None:
    if one.kept is not None:
        print("the deadline can be promised:")
        for line in one.kept.explain():
            print(f"  {line}")
    if one.refused is not None:
        print(f"a session refuses it: {one.refused.message}\n  remedy: {one.refused.remedy}")
        if one.degraded is not None:
            print("with on_infeasible='degrade' it")
            for line in one.degraded.explain():
                print(f"  {line}")


def _place(one: Foreseen) -> str:
    if not one.elsewhere:
        return "this machine, as it is"
    more = f", and {len(one.elsewhere) - 2} more" if len(one.elsewhere) > 2 else ""
    return f"not as this machine is ({'; '.join(one.elsewhere[:2])}{more})"


def _up(ms: float) -> int:
    return int(1.02 * ms) + 1  # as admission rounds: what has been spent before differs from call to call
