"""How many threads to compute with."""

import os
from pathlib import Path

from phiedge.errors import UsageError

_TOPOLOGY = Path("/sys/devices/system/cpu")


def default_threads(topology: Path = _TOPOLOGY) -> int:
    """One thread for each physical core that this process may use.

    Two threads on one core share its arithmetic units and slow each other down. Where the topology cannot be read,
    every logical processor counts as a core.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for processor in usable:
        siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.is_file() else str(processor))
    return max(1, len(cores))


def check_threads(threads: int) -> None:
    """Refuse a number of threads that no machine of this size can want; a hundred thousand take minutes to start."""
    most = max(16, 4 * (os.cpu_count() or 1))
    if not 1 <= threads <= most:
        raise UsageError(
            f"threads must be from 1 to {most} on this machine, not {threads}",
            remedy=f"leave it out to use one for each physical core ({default_threads()})",
        )
