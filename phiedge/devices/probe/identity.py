"""Which device of the catalogue this is, named only where everything that was found agrees.

A module's number, its model string, its chip and the size of its memory must tell the same story; so must a card's
name, compute capability and memory. Where one of them is missing or contradicts, the device is unknown, and `why` says
what was found. Nothing is ever named because it is the nearest.
"""

import re
from dataclasses import dataclass

from phiedge.devices.catalogue import find
from phiedge.devices.probe.cores import Cores
from phiedge.devices.probe.jetson import Jetson
from phiedge.devices.probe.memory import Memory
from phiedge.devices.probe.nvidia import Gpu, Gpus
from phiedge.devices.spec import Device

# NVIDIA's part number of a module -> the devices that carry it. The developer kit of AGX Orin was sold with both sizes.
MODULES = {
    "p3701-0000": ("agx-orin-64", "agx-orin-32"),
    "p3701-0004": ("agx-orin-32",),
    "p3701-0005": ("agx-orin-64",),
    "p3767-0000": ("orin-nx-16",),
    "p3767-0001": ("orin-nx-8",),
    "p3767-0003": ("orin-nano-8",),
    "p3767-0005": ("orin-nano-8",),
    "p3834-0008": ("thor-t5000",),
}
SOCS = {"p3701": "tegra234", "p3767": "tegra234", "p3834": "tegra264"}
# Families as model strings spell them, and the devices that are of each.
_FAMILIES = {"AGX Orin": "agx-orin-", "Orin NX": "orin-nx-", "Orin Nano": "orin-nano-", "Thor": "thor-"}

# What the driver calls a card, without "NVIDIA" and "GeForce". Variants with other rates have other names.
CARDS = {
    "RTX 3060": "rtx-3060",
    "RTX 3090": "rtx-3090",
    "RTX 4060 Ti": "rtx-4060-ti-16",
    "RTX 4070": "rtx-4070",
    "RTX 4080": "rtx-4080",
    "RTX 4090": "rtx-4090",
    "RTX A2000 12GB": "rtx-a2000-12",
    "RTX A4000": "rtx-a4000",
    "RTX A6000": "rtx-a6000",
    "RTX 2000 Ada Generation": "rtx-2000-ada",
    "RTX 4000 SFF Ada Generation": "rtx-4000-sff-ada",
    "RTX 6000 Ada Generation": "rtx-6000-ada",
    "RTX 5060 Ti": "rtx-5060-ti-16",
    "RTX 5070 Ti": "rtx-5070-ti",
    "RTX 5080": "rtx-5080",
    "RTX 5090": "rtx-5090",
    "RTX PRO 6000 Blackwell Workstation Edition": "rtx-pro-6000",
    "RTX 4090 Laptop GPU": "rtx-4090-laptop",
    "RTX 5090 Laptop GPU": "rtx-5090-laptop",
    "GB10": "dgx-spark",
}
# What a system leaves of the memory chips of a unified device (a recorded least is 0.93), and a driver of a card's.
_LEAST_VISIBLE, _LEAST_OF_CARD = 0.80, 0.93


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The catalogue's name of the device, or None; `why` says on what evidence, or what is missing or contradicts."""

    device: str | None
    why: str


def identify(*, jetson: Jetson | None, gpus: Gpus, memory: Memory, cores: Cores) -> Identity:
    """The device that everything agrees on."""
    if jetson is not None:
        return _of_jetson(jetson, memory)
    if gpus.found:
        return _of_cards(gpus, memory)
    if gpus.present:
        return Identity(device=None, why="there is an NVIDIA card or driver, but nothing says which")
    if cores.count is None:
        return Identity(device=None, why="neither a Jetson, nor a GPU, nor a processor was recognised")
    return Identity(device="cpu", why="there is neither a Jetson module nor an NVIDIA card")


def _of_jetson(jetson: Jetson, memory: Memory) -> Identity:
    part = jetson.part
    if part is None:
        return Identity(device=None, why="a Jetson, but its device tree does not name one module")
    candidates = MODULES.get(part)
    if candidates is None:
        return Identity(device=None, why=f"module {part} is not one that phiedge knows")
    if jetson.soc != SOCS[part.partition("-")[0]]:
        return Identity(device=None, why=f"module {part} has {SOCS[part[:5]]}, the device tree says {jetson.soc}")
    families = [prefix for words, prefix in _FAMILIES.items() if jetson.model and words in jetson.model]
    if len(families) != 1 or not candidates[0].startswith(families[0]):
        return Identity(device=None, why=f"module {part} is of {candidates[0]}, the model string says {jetson.model!r}")
    total = memory.total_bytes
    if total is None:
        return Identity(device=None, why=f"module {part}, but the system does not tell its memory")
    fitting = [name for name in candidates if _has_visible(find(name), total)]
    if len(fitting) != 1:
        sizes = " or ".join(f"{_memory(find(name)) / 2**30:.0f} GiB" for name in candidates)
        return Identity(device=None, why=f"module {part} has {sizes} of memory, the system has {total / 2**30:.1f} GiB")
    return Identity(device=fitting[0], why=f"module {part}, {jetson.model}, {total / 2**30:.1f} GiB")


def _of_cards(gpus: Gpus, memory: Memory) -> Identity:
    identities = [_of_card(gpu, memory) for gpu in gpus.found]
    if gpus.problems:
        return Identity(device=None, why=gpus.problems[0])
    names = {identity.device for identity in identities}
    if len(names) > 1:
        listed = ", ".join(gpu.name for gpu in gpus.found)
        return Identity(device=None, why=f"several GPUs that differ: {listed}")
    first = identities[0]
    return first if len(identities) == 1 else Identity(device=first.device, why=f"{len(identities)} times {first.why}")


def _of_card(gpu: Gpu, memory: Memory) -> Identity:
    short = re.sub(r"^(NVIDIA )?(GeForce )?", "", gpu.name)
    name = CARDS.get(short)
    if name is None:
        return Identity(device=None, why=f"{gpu.name} is not a card that phiedge knows")
    if gpu.mig:
        return Identity(device=None, why=f"{gpu.name} is divided (MIG): what a part of it can do is not known")
    device = find(name)
    if device.sm is None or gpu.compute_capability != device.sm.value:
        wanted = None if device.sm is None else device.sm.value
        return Identity(device=None, why=f"{gpu.name} has SM {wanted}, the driver says {gpu.compute_capability}")
    unified = device.memory_kind == "unified"
    total = memory.total_bytes if unified else gpu.memory_bytes
    if total is None:
        return Identity(device=None, why=f"{gpu.name}, but nothing tells its memory")
    fits = _has_visible(device, total) if unified else _LEAST_OF_CARD * _memory(device) <= total <= _memory(device)
    if not fits:
        sizes = f"{_memory(device) / 2**30:.0f} GiB of memory, here are {total / 2**30:.1f} GiB"
        return Identity(device=None, why=f"{gpu.name} as phiedge knows it has {sizes}")
    return Identity(device=name, why=f"{gpu.name}, SM {gpu.compute_capability}, {total / 2**30:.1f} GiB")


def _has_visible(device: Device, total_bytes: int) -> bool:
    return _LEAST_VISIBLE * _memory(device) <= total_bytes <= _memory(device)


def _memory(device: Device) -> int:
    assert device.memory_bytes is not None, "every device but the CPU has it"
    return device.memory_bytes.value
