"""What the whole machine draws, as the current sensors of a Jetson and the drivers of cards tell it.

The rails of a Jetson's sensors have names on their labels. VDD_IN is what the module takes as a whole; where a module
has none, the sum of the rails that feed it is (AGX Orin: VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0).
"""

import re

from phiedge.devices.probe.nvidia import Gpu
from phiedge.devices.probe.surfaces import Surfaces
from phiedge.devices.probe.thermal import HWMON

_SENSORS = ("ina3221", "ina238")
_WHOLE = "VDD_IN"
_MOST_WATTS = 2000.0


def drawn_watts(surfaces: Surfaces, gpus: tuple[Gpu, ...]) -> float | None:
    """The module, or all cards together; None where nothing tells."""
    rails = _rails(surfaces)
    if _WHOLE in rails:
        return rails[_WHOLE]
    found = [*rails.values(), *(gpu.power_watts for gpu in gpus if gpu.power_watts is not None)]
    return round(sum(found), 3) if found else None


def _rails(surfaces: Surfaces) -> dict[str, float]:
    """Watts of each rail that has a name, a voltage and a current, all of which can be."""
    rails = {}
    for path in surfaces.files.names(HWMON, "hwmon*"):
        if surfaces.files.text(f"{path}/name") not in _SENSORS:
            continue
        for label_path in surfaces.files.names(path, "in*_label"):
            name = surfaces.files.text(label_path) or ""
            place = label_path.rpartition("/in")[2].removesuffix("_label")
            volts, amperes = (surfaces.files.number(f"{path}/{kind}{place}_input") for kind in ("in", "curr"))
            if re.fullmatch(r"V[A-Z0-9_]{1,40}", name) and volts is not None and amperes is not None:
                watts = volts * amperes / 1e6
                if 0.0 <= watts <= _MOST_WATTS:
                    rails[name] = round(watts, 3)
    return rails
