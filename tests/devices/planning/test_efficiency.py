"""From measurements to what is planned; each row is held against all others."""

import pytest

from phiedge.devices import catalogue, find
from phiedge.devices.planning.efficiency import (
    SPREAD,
    arithmetic_efficiency,
    decode_efficiency,
    explained,
    of_shares,
)
from phiedge.devices.planning.published import machine_of, rows

# Those that other rows do not explain; docs/reference/plan.md says what is known about them.
NOT_EXPLAINED = {
    ("decode", "agx-orin-64", "llama.cpp 2024", "Llama-2-13B"),
    ("decode", "thor-t5000", "llama.cpp 2026", "Gemma-4-12B"),
    ("decode", "rtx-4090", "llama.cpp 2026", "Qwen3-14B"),
    ("prefill", "agx-orin-64", "TensorRT Edge-LLM 0.10", "Qwen3-8B"),
    ("prefill", "thor-t5000", "TensorRT Edge-LLM 0.10", "Qwen3-8B"),
    ("prefill", "rtx-4080", "llama.cpp 2024", "Llama-3-8B"),
    ("prefill", "rtx-6000-ada", "llama.cpp 2024", "Llama-3-8B"),
}


def test_every_row_but_those_listed_lies_within_what_all_others_plan_for_it() -> None:
    outside = {(row.kind, row.machine.name, row.engine, row.model.title) for row in rows() if not explained(row)[1]}
    assert outside == NOT_EXPLAINED


def test_every_compiled_engine_decodes_as_the_others_let_expect() -> None:
    assert all(explained(row)[1] for row in rows() if (row.kind, row.family) == ("decode", "compiled"))


@pytest.mark.parametrize(
    ("device", "planned", "evidence"),
    [
        ("agx-orin-64", 0.77, "compiled engines on agx-orin-64"),
        ("agx-orin-32", 0.78, "compiled engines on SM 8.7"),
        ("thor-t4000", 0.87, "compiled engines on SM 11.0"),
        ("rtx-3060", 0.76, "all engines on cards up to 600 GB/s"),
        ("rtx-4080", 0.75, "compiled engines on cards of 600 to 1200 GB/s"),
        ("rtx-5090", 0.62, "all engines on cards above 1200 GB/s"),
    ],
)
def test_the_nearest_measurements_are_taken(device: str, planned: float, evidence: str) -> None:
    found = decode_efficiency(machine_of(find(device)))
    assert found.evidence == evidence
    assert found.planned == pytest.approx(planned, abs=0.01)


def test_fp4_on_thor_is_its_own_measurement_and_on_others_is_said_to_be_borrowed() -> None:
    assert (
        arithmetic_efficiency(machine_of(find("thor")), "nvfp4").evidence == "compiled engines in nvfp4 on thor-t5000"
    )
    assert "elsewhere" in arithmetic_efficiency(machine_of(find("rtx-5090")), "nvfp4").evidence
    assert "nothing is known of fp8" in arithmetic_efficiency(machine_of(find("rtx-4090")), "fp8").evidence


@pytest.mark.parametrize("device", [device for device in catalogue() if device.sm], ids=lambda device: device.name)
def test_every_device_has_an_efficiency_for_every_arithmetic(device: object) -> None:
    machine = machine_of(device)
    for found in (decode_efficiency(machine), *(arithmetic_efficiency(machine, name) for name in ("fp16", "fp8"))):
        assert 0 < found.least < found.planned <= found.most <= 1


def test_one_measurement_alone_is_trusted_half_as_much() -> None:
    assert of_shares("", [0.5]).least == pytest.approx(0.5 * (1 - 2 * SPREAD))
    assert of_shares("", [0.5, 0.6]).least == pytest.approx(0.5 * (1 - SPREAD))
    assert of_shares("", [0.9, 0.95]).most == 1.0
