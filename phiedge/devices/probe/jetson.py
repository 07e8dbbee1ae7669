"""What a Jetson says of itself: its release of Linux, its module, its power mode.

A container has the device tree of its host but often no release file, and no power model. Surfaces are those that
jetson_stats documents (https://github.com/rbonghi/jetson_stats); JetPack's numbers are those of NVIDIA's release notes.
"""

import re
from dataclasses import dataclass

from phiedge.devices.probe.surfaces import Surfaces

RELEASE_FILE = "/etc/nv_tegra_release"
KERNEL_FILE = "/proc/sys/kernel/osrelease"
MODEL_FILES = ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
COMPATIBLE_FILES = ("/proc/device-tree/compatible", "/sys/firmware/devicetree/base/compatible")
MODE_FILE, MODES_FILE = "/var/lib/nvpmodel/status", "/etc/nvpmodel.conf"

# Linux for Tegra -> JetPack. A release that is not here is told without a JetPack.
JETPACKS = {
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
}
_KERNELS = {35: "5.10", 36: "5.15", 38: "6.8", 39: "6.8"}  # major release -> the kernel that it brings
_MODULE_PART = re.compile(r"p(?:3701|3767|3834)-[0-9]{4}")
_SOC = re.compile(r"nvidia,(tegra[0-9]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One power mode. Numbers differ from module to module: MAXN_SUPER is 0 on Orin NX and 2 on Orin Nano."""

    number: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerMode:
    """The mode in force. `name` is None where the table does not have its number; `choices` are all of the table."""

    number: int | None
    name: str | None
    choices: tuple[Mode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jetson:
    """A module and its software; `l4t` is the release of Linux for Tegra, `part` NVIDIA's number of the module."""

    model: str | None
    part: str | None
    soc: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: PowerMode
    problems: tuple[str, ...] = ()


def find_jetson(surfaces: Surfaces) -> Jetson | None:
    """The Jetson that this is, or None where nothing says that it is one."""
    model, compatible = _first(surfaces, MODEL_FILES), _first(surfaces, COMPATIBLE_FILES) or ""
    soc = _SOC.search(compatible)
    parts = tuple(dict.fromkeys(_MODULE_PART.findall(compatible)))
    tegra_kernel = (surfaces.files.text(KERNEL_FILE) or "").endswith("-tegra")
    has_release = surfaces.files.text(RELEASE_FILE) is not None
    if not (soc or parts or tegra_kernel or has_release or (model and "Jetson" in model)):
        return None
    l4t, problems = _release(surfaces)
    if len(parts) > 1:
        problems += (f"the device tree names several modules: {', '.join(parts)}",)
    mode, of_mode = _power_mode(surfaces)
    return Jetson(
        model=model or None,
        part=parts[0] if len(parts) == 1 else None,
        soc=soc[1] if soc else None,
        l4t=l4t,
        jetpack=None if l4t is None else JETPACKS.get(l4t),
        power_mode=mode,
        problems=problems + of_mode,
    )


def parse_release(text: str) -> str | None:
    """`36.4.3` of the line that /etc/nv_tegra_release begins with."""
    match = re.search(r"R(\d{2}) \(release\), REVISION: (\d{1,2}(?:\.\d{1,2}){0,2})\b", text, flags=re.ASCII)
    return None if match is None else _three_numbers(f"{match[1]}.{match[2]}")


def parse_modes(text: str) -> dict[int, str]:
    """Number and name of every mode that a table of nvpmodel has; a number given twice is left out."""
    found = re.findall(r"<\s*POWER_MODEL\s+ID=(\d{1,3})\s+NAME=([A-Za-z0-9_.+-]{1,40})\s*>", text, flags=re.ASCII)
    numbers = [int(number) for number, _ in found]
    return {int(number): name for number, name in found if numbers.count(int(number)) == 1}


def _release(surfaces: Surfaces) -> tuple[str | None, tuple[str, ...]]:
    """The release, from its file or else its package, as long as the kernel does not contradict it."""
    text = surfaces.files.text(RELEASE_FILE)
    release = None if text is None else parse_release(text)
    problems: tuple[str, ...] = ()
    if text is not None and release is None:
        problems = (f"{RELEASE_FILE} does not name a release",)
    if release is None:
        package = surfaces.said("l4t-package")
        match = re.search(r"nvidia-l4t-core\s+(\d{2}\.\d{1,2}\.\d{1,2})-", package.text) if package else None
        release = match[1] if match else None
    kernel = surfaces.files.text(KERNEL_FILE) or ""
    wanted = None if release is None else _KERNELS.get(int(release.partition(".")[0]))
    if wanted is not None and kernel.endswith("-tegra") and not kernel.startswith(f"{wanted}."):
        return None, (*problems, f"release {release} comes with kernel {wanted}, but this is kernel {kernel}")
    return release, problems


def _power_mode(surfaces: Surfaces) -> tuple[PowerMode, tuple[str, ...]]:
    """The status file may be read by everybody; nvpmodel itself is asked where it is missing."""
    modes = parse_modes(surfaces.files.text(MODES_FILE) or "")
    status = re.search(r"pmode:(\d{4})\b", surfaces.files.text(MODE_FILE) or "", flags=re.ASCII)
    number, told = (int(status[1]) if status else None), None
    if number is None:
        said = surfaces.said("nvpmodel")
        match = re.search(r"NV Power Mode: (\S{1,40})\s+(\d{1,3})\s*$", said.text if said else "", flags=re.ASCII)
        number, told = (int(match[2]), match[1]) if match else (None, None)
    name = None if number is None else modes.get(number)
    choices = tuple(Mode(number=key, name=value) for key, value in modes.items())
    problems: tuple[str, ...] = ()
    if number is not None and modes and name is None:
        problems = (f"power mode {number} is not in {MODES_FILE}",)
    elif told is not None and name not in (None, told):
        problems, name = (f"nvpmodel calls mode {number} {told}, {MODES_FILE} calls it {name}",), None
    elif not modes:
        name = told
    return PowerMode(number=number, name=name, choices=choices), problems


def _three_numbers(release: str) -> str:
    parts = [str(int(part)) for part in release.split(".")]
    return ".".join([*parts, "0", "0"][:3])


def _first(surfaces: Surfaces, paths: tuple[str, ...]) -> str | None:
    return next((text for path in paths if (text := surfaces.files.text(path))), None)
