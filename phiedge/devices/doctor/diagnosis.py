"""All checks, in the order in which their findings are best mended: what makes it slow, then what makes it wait."""

from collections.abc import Callable, Mapping

from phiedge.devices.doctor import speed, waiting
from phiedge.devices.doctor.finding import Diagnosis, Finding
from phiedge.devices.doctor.speed import Findings
from phiedge.devices.probe.probing import Probe
from phiedge.devices.probe.surfaces import Surfaces

_SPEED: Mapping[str, Callable[[Probe], Findings]] = {
    "power mode": speed.power_mode,
    "governor": speed.governors,
    "gpu clock": speed.gpu_clocks,
    "memory clock": speed.memory_clock,
    "heat": speed.heat,
    "over-current": speed.over_current,
    "cards": speed.cards,
    "gpu users": speed.gpu_users,
}
_WAITING: Mapping[str, Callable[[Probe, Surfaces], Findings]] = {
    "swap": waiting.swap,
    "memory": waiting.memory,
    "load": waiting.load,
    "real-time rights": waiting.realtime,
    "real-time throttle": waiting.realtime_throttle,
}


def diagnose(found: Probe, surfaces: Surfaces) -> Diagnosis:
    """Every finding about the system that was probed through `surfaces`."""
    results = {name: check(found) for name, check in _SPEED.items()}
    results |= {name: check(found, surfaces) for name, check in _WAITING.items()}
    findings: list[Finding] = [finding for given in results.values() for finding in given or ()]
    return Diagnosis(findings=tuple(findings), unknown=tuple(name for name, given in results.items() if given is None))
