"""Facts about the devices that phiedge exports for: what they are, what they can do, and where each figure comes from.

Light on purpose: the standard library only (and `tomli` before Python 3.11), because a robot imports it. What is here
is looked up. Figures about the machine at hand are measured, by modules that are imported for it:

    host.py    what this machine is      read_bandwidth.py   how fast it reads memory
    work.py    what a run has to do      roofline.py         the least time that this can take
    probe/     which device this is      telemetry/          what happens to it meanwhile
    doctor/    what makes it slow        planning/           what fits a device, and how fast it would be there
"""

from phiedge.devices.catalogue import aliases, catalogue, find
from phiedge.devices.spec import Device, Figure, Source, Stack, describe

__all__ = ["Device", "Figure", "Source", "Stack", "aliases", "catalogue", "describe", "find"]
