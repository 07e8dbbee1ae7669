"""Systems that are damaged in a thousand ways: no probe crashes, and none claims what is not so.

A copy has one to three of its surfaces removed, cut, emptied, filled with noise, or changed in a character or a number.
A device must then be the right one or unknown; so must the name of a power mode, as far as its table and its number
were left alone. What is a number must be one that can be.
"""

import random
from dataclasses import fields, is_dataclass

import pytest

from held_files import held, surfaces
from phiedge.devices.doctor import diagnose
from phiedge.devices.probe import Probe
from phiedge.devices.probe.power import drawn_watts
from phiedge.devices.probe.probing import probe_surfaces
from recorded_trees import TREES, read

COPIES = 1000


def damaged(data: bytes, chance: random.Random) -> bytes | None:
    kind = chance.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return b""
    if kind == 2:
        return data[: chance.randrange(len(data) + 1)]
    if kind == 3:
        return chance.randbytes(chance.randrange(200))
    if kind == 4:
        return data + data
    if kind == 5:
        return b"-256000\n" if chance.random() < 0.5 else b"9" * chance.choice((1, 10, 30, 5000))
    place = chance.randrange(len(data)) if data else 0
    if kind == 6:
        return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
    digits = [index for index, byte in enumerate(data) if chr(byte).isdigit()]
    place = chance.choice(digits) if digits else place
    return data[:place] + str(chance.randrange(10)).encode() + data[place + 1 :]


def mutated(files: dict[str, bytes], chance: random.Random) -> tuple[dict[str, bytes], set[str]]:
    changed = dict(files)
    # Half of the damage where the evidence is: most files are clocks and sensors.
    evidence = [path for path in files if path.startswith(("/proc/", "/etc/", "/var/", "/commands/"))]
    paths = {chance.choice(evidence if chance.random() < 0.5 else list(files)) for _ in range(chance.randint(1, 3))}
    for path in paths:
        data = damaged(files[path], chance)
        if data is None:
            del changed[path]
        else:
            changed[path] = data
    return changed, paths


def numbers_of(value: object, name: str = "") -> list[tuple[str, float]]:
    """Every number in a report, with the name of its field."""
    if is_dataclass(value) and not isinstance(value, type):
        return [pair for field in fields(value) for pair in numbers_of(getattr(value, field.name), field.name)]
    if isinstance(value, tuple):
        return [pair for item in value for pair in numbers_of(item, name)]
    return [(name, value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


BOUNDS = {"celsius": (-60, 200), "_mhz": (1, 40_000), "_bytes": (0, 2**50), "_percent": (0, 100), "mhz": (1, 40_000)}


def assert_possible(found: Probe) -> None:
    for name, value in numbers_of(found):
        for ending, (least, most) in BOUNDS.items():
            if name.endswith(ending):
                assert least <= value <= most, (name, value)


@pytest.mark.parametrize("tree", TREES)
def test_a_thousand_damaged_copies_give_no_crash_and_no_wrong_claim(tree: str) -> None:
    files = held(read(tree))
    whole = probe_surfaces(surfaces(files))
    chance = random.Random(tree)
    named = 0
    for _ in range(COPIES):
        copy, paths = mutated(files, chance)
        system = surfaces(copy)
        found = probe_surfaces(system)
        assert found.identity.device in (whole.identity.device, None), (paths, found.identity)
        assert found.identity.why
        assert_possible(found)
        if found.jetson and whole.jetson and not any("nvpmodel" in path for path in paths):
            assert found.jetson.power_mode == whole.jetson.power_mode
        found.as_dict()
        assert 0 <= (drawn_watts(system, found.gpus.found) or 0) <= 10_000
        diagnose(found, system)
        named += found.identity.device is not None
    assert named > COPIES / 3, "damage to a sensor must not hide the device"
