"""Facts about the devices that phiedge exports for: what they are, what they can do, and where each figure comes from.

Light on purpose: the standard library only (and `tomli` before Python 3.11), because a robot imports it. It measures
nothing; a figure about the machine at hand is measured, not looked up.
"""

from phiedge.devices.catalogue import aliases, catalogue, find
from phiedge.devices.spec import Device, Figure, Source, Stack, describe

__all__ = ["Device", "Figure", "Source", "Stack", "aliases", "catalogue", "describe", "find"]
