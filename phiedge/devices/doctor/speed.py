"""Is it as fast as it can be? Power mode, clocks, heat, and what holds a GPU down.

Each check gives findings, or None where the system does not tell what it looks at.
"""

from collections.abc import Sequence

from phiedge.devices.doctor.finding import Finding
from phiedge.devices.probe.clocks import Clock
from phiedge.devices.probe.jetson import PowerMode
from phiedge.devices.probe.nvidia import Gpu
from phiedge.devices.probe.probing import Probe

FULL_MODES = ("MAXN_SUPER", "MAXN")  # the first that a module has
LEAST_HEADROOM_CELSIUS = 10.0  # a busy module warms by as much within minutes; the trip point itself is the kernel's
# At full throughput the memory of an Orin runs at 3199 MHz; modes of the 15 W class hold it at 2133 MHz.
_SLOW_MEMORY_MHZ = 2133.0

Findings = Sequence[Finding] | None


def power_mode(found: Probe) -> Findings:
    """Of a Jetson: whether the mode in force caps its clocks."""
    if found.jetson is None:
        return ()
    mode = found.jetson.power_mode
    full = _full_mode(mode)
    if mode.name is None or (full is None and mode.choices):
        return None
    if mode.name in FULL_MODES:
        return ()
    return [
        Finding(
            name="power mode",
            when="now",
            what=f"the power mode is {mode.name}",
            why="a mode of few watts caps the clocks of GPU, cores and often memory, which every token waits for",
            fix="sudo nvpmodel -q --verbose" if full is None else f"sudo nvpmodel -m {full}",
        )
    ]


def governors(found: Probe) -> Findings:
    """Whether a governor may slow the cores down between two tokens."""
    known = [clock for clock in found.core_clocks if clock.governor is not None]
    if not known:
        return None
    lazy = [clock for clock in known if clock.governor != "performance" and clock.held is not True]
    if not lazy:
        return ()
    command = "sudo jetson_clocks" if found.jetson else "sudo cpupower frequency-set -g performance"
    return [
        Finding(
            name="governor",
            when="now",
            what=f"the governor {lazy[0].governor} moves the clock of {len(lazy)} of {len(known)} groups of cores",
            why="it needs milliseconds to raise a clock again that it lowered while the GPU worked",
            fix=command,
        )
    ]


def gpu_clocks(found: Probe) -> Findings:
    """Of a Jetson: whether its GPU's clock is locked. Of a card it cannot be seen."""
    if found.jetson is None:
        return ()
    known = [clock for clock in found.gpu_clocks if clock.held is not None]
    if not known:
        return None
    loose = [clock for clock in known if not clock.held]
    return [_loose(clock) for clock in loose]


def memory_clock(found: Probe) -> Findings:
    """Of a Jetson: whether its memory runs at its full clock."""
    clock = found.memory_clock
    if found.jetson is None:
        return ()
    if clock is None or clock.mhz is None:
        return None
    orin = found.jetson.soc == "tegra234"
    slow = clock.mhz < clock.most_mhz if clock.most_mhz is not None else orin and clock.mhz <= _SLOW_MEMORY_MHZ
    if not slow:
        return ()
    most = "3199" if clock.most_mhz is None else f"{clock.most_mhz:.0f}"
    return [
        Finding(
            name="memory clock",
            when="now",
            what=f"the memory runs at {clock.mhz:.0f} MHz, not at {most} MHz",
            why="every token reads all weights: the time for one grows as the memory's clock falls",
            fix="sudo nvpmodel -q, choose a mode of more watts by its name, then sudo jetson_clocks",
        )
    ]


def heat(found: Probe) -> Findings:
    """Whether a sensor is near the temperature at which the kernel slows the chip down."""
    known = [zone for zone in found.zones if zone.headroom_celsius is not None]
    if not known:
        return None
    hottest = min(known, key=lambda zone: zone.headroom_celsius or 0.0)
    headroom = hottest.headroom_celsius
    if headroom is None or headroom >= LEAST_HEADROOM_CELSIUS:
        return ()
    return [
        Finding(
            name="heat",
            when="now" if headroom <= 0 else "risk",
            what=f"{hottest.name} is at {hottest.celsius:g} °C and throttles at {hottest.passive_celsius:g} °C",
            why="a chip that throttles takes longer for the same token, minutes after a test has passed",
            fix="sudo jetson_clocks --fan, and a better way for the air" if found.jetson else "cool it better",
        )
    ]


def over_current(found: Probe) -> Findings:
    """Of a Jetson: whether the current was ever cut since the start."""
    if found.jetson is None:
        return ()
    if not found.over_currents:
        return None
    raised = [counter for counter in found.over_currents if counter.events and counter.throttles is not False]
    return [
        Finding(
            name="over-current",
            when="risk",
            what=f"{counter.name}: the current was cut {counter.events} times since the start",
            why="for each of these moments the clocks were lowered by hardware, whatever the power mode",
            fix="a stronger power supply, or a mode of fewer watts that holds: sudo nvpmodel -m NUMBER",
        )
        for counter in raised
    ]


def cards(found: Probe) -> Findings:
    """Of cards: what holds their clocks down, and whether the driver lets go of them when nobody computes."""
    if found.jetson is not None:
        return ()
    return [finding for gpu in found.gpus.found for finding in _of_card(gpu)]


def gpu_users(found: Probe) -> Findings:
    """Who else computes on the GPU."""
    return [
        Finding(
            name="gpu user",
            when="now",
            what=f"process {user.pid} ({user.name or 'without a name'}) computes on the GPU",
            why="kernels of two processes take turns: a step waits until the other's kernel has ended",
            fix=f"kill {user.pid}",
        )
        for user in found.gpus.users
    ]


def _of_card(gpu: Gpu) -> list[Finding]:
    found = []
    if gpu.held_down:
        found.append(
            Finding(
                name="held down",
                when="now",
                what=f"{gpu.name} is held down by {', '.join(gpu.held_down)}",
                why="its clock is below what was measured or promised, by how much changes from moment to moment",
                fix="nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE; sudo nvidia-smi -pl WATTS raises a power cap",
            )
        )
    if gpu.persistence is False:
        found.append(
            Finding(
                name="persistence",
                when="risk",
                what=f"the driver lets go of {gpu.name} when nobody computes",
                why="the next session waits for it to be initialised again, and clocks that were locked are lost",
                fix="sudo nvidia-smi -pm 1",
            )
        )
    return found


def _loose(clock: Clock) -> Finding:
    return Finding(
        name="gpu clock",
        when="now",
        what=f"the clock of {clock.name} moves between {clock.least_mhz:g} and {clock.most_mhz:g} MHz",
        why="the GPU slows down while the host prepares a step, and speeds up only in the middle of the next",
        fix="sudo jetson_clocks",
    )


def _full_mode(mode: PowerMode) -> int | None:
    by_name = {choice.name: choice.number for choice in mode.choices}
    return next((by_name[name] for name in FULL_MODES if name in by_name), None)
