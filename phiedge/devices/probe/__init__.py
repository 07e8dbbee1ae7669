"""What the machine at hand, or a recorded one, tells about itself, read from its files and programs.

surfaces.py   where to look        identity.py   which device of the catalogue it is
jetson.py     release and module   nvidia.py     cards with a driver of their own
cores.py      the processor        memory.py     memory and swap
clocks.py     clocks               thermal.py    heat and current
power.py      what is drawn
"""

from phiedge.devices.probe.identity import Identity
from phiedge.devices.probe.probing import Probe, probe

__all__ = ["Identity", "Probe", "probe"]
