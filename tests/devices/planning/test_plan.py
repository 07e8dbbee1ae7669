"""Plans of the published model, held against figures that were computed by hand."""

from dataclasses import replace

import pytest

from phiedge.bundle import ModelFacts, Precision
from phiedge.devices import catalogue, find
from phiedge.devices.planning.advice import changes
from phiedge.devices.planning.fit import require_fit
from phiedge.devices.planning.models import PUBLISHED, PUBLISHED_NAME
from phiedge.devices.planning.plan import Plan, Task, make_plan, verdict_of
from phiedge.devices.planning.speeds import processor_speeds
from phiedge.devices.planning.storage import PLANNED_ONLY, Storage, sizes_of, storage_of
from phiedge.devices.planning.time import Request, Span
from phiedge.errors import ContextLengthError, DeviceError
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.precision import choose_precision
from published import PUBLISHED_CONFIG


def precision(name: str) -> Precision:
    if name in PLANNED_ONLY:
        return PLANNED_ONLY[name]
    return choose_precision(name, sm=89).plan.record(embed_tokens="bfloat16")


def stored(name: str) -> Storage:
    return storage_of(precision(name), activations="float16")


def planned(
    device: str, name: str = "int4", *, context: int = 4096, deadline_ms: float | None = None, answer: int = 64
) -> Plan:
    request = Request(patches=(1024,), prompt_tokens=256, answer_tokens=answer)
    task = Task(model=PUBLISHED_NAME, facts=PUBLISHED, request=request, max_context=context, deadline_ms=deadline_ms)
    return make_plan(find(device), stored(name), task)


def test_the_published_facts_are_those_that_phiedge_reads_of_the_published_configuration() -> None:
    config = ModelConfig.from_json(PUBLISHED_CONFIG)
    shapes = [name for name in ModelConfig.__dataclass_fields__ if hasattr(PUBLISHED, name) and name != "generation"]
    assert len(shapes) > 12
    assert {name: getattr(PUBLISHED, name) for name in shapes} == {name: getattr(config, name) for name in shapes}


@pytest.mark.parametrize(
    ("name", "weights_gb"), [("int4", 8.15), ("int8", 15.3), ("fp8", 15.5), ("nvfp4", 9.1), ("fp16", 29.2)]
)
def test_the_weights_take_what_their_bits_say(name: str, weights_gb: float) -> None:
    assert sizes_of(PUBLISHED, stored(name)).weights_bytes / 1e9 == pytest.approx(weights_gb, rel=0.01)


def test_the_weights_of_a_cpu_are_those_that_an_export_wrote() -> None:
    # benchmarks/results/2026-11-22-bundle-speed-15b.json: decoder.data of the full-size bundle.
    record = replace(precision("int4"), lm_head="int8")
    assert sizes_of(PUBLISHED, storage_of(record, activations="float32")).decoder_bytes == pytest.approx(
        7_773_245_440, rel=0.001
    )


# INT4 and 8 bits at 4096 positions; "tight" ones fit.
FITS = {
    "agx-orin-64": (True, True),
    "agx-orin-32": (True, True),
    "orin-nx-16": (True, False),
    "orin-nx-8": (False, False),
    "orin-nano-8": (False, False),
    "thor-t5000": (True, True),
    "thor-t4000": (True, True),
    "dgx-spark": (True, True),
    "rtx-3060": (True, False),
    "rtx-3090": (True, True),
    "rtx-4060-ti-16": (True, False),
    "rtx-4070": (True, False),
    "rtx-4080": (True, False),
    "rtx-4090": (True, True),
    "rtx-a2000-12": (True, False),
    "rtx-a4000": (True, False),
    "rtx-a6000": (True, True),
    "rtx-2000-ada": (True, False),
    "rtx-4000-sff-ada": (True, True),
    "rtx-6000-ada": (True, True),
    "rtx-5060-ti-16": (True, False),
    "rtx-5070-ti": (True, False),
    "rtx-5080": (True, False),
    "rtx-5090": (True, True),
    "rtx-pro-6000": (True, True),
    "rtx-4090-laptop": (True, False),
    "rtx-5090-laptop": (True, True),
}


@pytest.mark.parametrize("device", FITS)
def test_what_fits_is_what_was_worked_out_by_hand(device: str) -> None:
    assert (planned(device, "int4").memory.fits, planned(device, "int8").memory.fits) == FITS[device]


def test_no_device_is_forgotten() -> None:
    assert set(FITS) == {device.name for device in catalogue() if device.sm is not None}


# A picture of 1024 visual tokens, 256 of text, 64 of the answer: milliseconds for the prompt with its picture, and for
# a token, worked out by hand from the nearest measurement.
@pytest.mark.parametrize(
    ("device", "first_ms", "token_ms"),
    [
        ("agx-orin-64", 2000, 50),
        ("orin-nx-16", 4250, 92),
        ("thor-t5000", 830, 34),
        ("dgx-spark", 480, 36),
        ("rtx-3060", 2900, 31),
        ("rtx-4060-ti-16", 1700, 34),
        ("rtx-4090", 440, 10.5),
        ("rtx-5090", 350, 7.1),
    ],
)
def test_times_are_those_that_were_worked_out_by_hand(device: str, first_ms: float, token_ms: float) -> None:
    time = planned(device).time
    assert time.first_token.planned_ms == pytest.approx(first_ms, rel=0.16)
    assert time.token.planned_ms == pytest.approx(token_ms, rel=0.12)
    assert time.total.limit_ms < time.total.least_ms < time.total.planned_ms < time.total.most_ms


def test_fp4_makes_a_prompt_on_thor_several_times_faster() -> None:
    int4, nvfp4 = planned("thor"), planned("thor", "nvfp4")
    assert int4.time.prefill.planned_ms > 3 * nvfp4.time.prefill.planned_ms


@pytest.mark.parametrize(
    ("deadline_ms", "verdict"), [(40, "safe"), (30, "likely"), (20, "unlikely"), (10, "late"), (9, "impossible")]
)
def test_a_verdict_says_which_of_the_times_is_early_enough(deadline_ms: float, verdict: str) -> None:
    total = Span(limit_ms=10, least_ms=20, planned_ms=30, most_ms=40)
    assert verdict_of(total, deadline_ms) == verdict


def test_every_change_that_is_named_would_do() -> None:
    plan = planned("orin", deadline_ms=4000)
    assert not plan.feasible
    named = changes(plan, [stored("int4"), stored("fp16")], lambda device: stored("int4"))
    assert [change.what.split()[0] for change in named[:2]] == ["pictures", "--answer-tokens"]
    assert any(change.what.startswith("--target thor") for change in named)
    assert all(change.planned_ms <= 4000 for change in named)
    patches = int(named[0].what.split()[4])
    fewer = plan.with_request(replace(plan.task.request, patches=(patches,)))
    more = plan.with_request(replace(plan.task.request, patches=(patches + 1,)))
    assert (fewer.feasible, more.feasible) == (True, False)


def test_a_context_that_is_too_large_is_cut_to_what_fits() -> None:
    plan = planned("rtx-3060", context=32768)
    assert not plan.memory.fits
    named = changes(plan, [], lambda device: stored("int4"))
    context = int(named[0].what.removeprefix("--max-context "))
    assert plan.with_context(context).memory.fits
    assert not plan.with_context(context + 1).memory.fits


def test_a_plan_that_is_feasible_needs_no_change() -> None:
    assert changes(planned("rtx-4090", deadline_ms=60_000), [], lambda device: stored("int4")) == []


SMALL = replace(PUBLISHED, hidden_size=2048, num_layers=16, num_heads=16, num_kv_heads=4, intermediate_size=7168)


def on_processor(facts: ModelFacts, *, read_gbps: float, prompt: int) -> Plan:
    """A plan for two cores, with a decoder as a bundle for a CPU has it: int4 in groups of 128, an int8 head."""
    speeds = processor_speeds(read_gbps=read_gbps, float_gflops=444, int8_gops=1737, quantised=True)
    request = Request(patches=(), prompt_tokens=prompt, answer_tokens=1)
    task = Task(model="measured", facts=facts, request=request, max_context=8192)
    storage = storage_of(replace(precision("int4"), lm_head="int8"), activations="float32")
    return make_plan(find("cpu"), storage, task, speeds=speeds, available_bytes=20 * 10**9)


# Measured on two cores: benchmarks/results/2026-11-22-bundle-speed-15b.json and 2026-11-22-peers-side-by-side.json.
@pytest.mark.parametrize(
    ("facts", "read_gbps", "context", "measured_ms"),
    [
        (PUBLISHED, 67.9, 64, 198.9),
        (PUBLISHED, 67.9, 256, 204.2),
        (PUBLISHED, 67.9, 1024, 230.1),
        (PUBLISHED, 67.9, 4096, 305.9),
        (SMALL, 46.8, 64, 19.1),
        (SMALL, 46.8, 1024, 22.8),
    ],
)
def test_tokens_on_a_processor_are_planned_within_a_fifth_of_what_was_measured(
    facts: ModelFacts, read_gbps: float, context: int, measured_ms: float
) -> None:
    time = on_processor(facts, read_gbps=read_gbps, prompt=context).time
    assert time.token.planned_ms == pytest.approx(measured_ms, rel=0.2)
    assert time.token.least_ms < measured_ms < time.token.most_ms


@pytest.mark.parametrize(("facts", "tokens", "measured_ms"), [(PUBLISHED, 256, 10_915), (SMALL, 1024, 2_879)])
def test_prompts_on_a_processor_are_planned_within_a_fifth_of_what_was_measured(
    facts: ModelFacts, tokens: int, measured_ms: float
) -> None:
    time = on_processor(facts, read_gbps=60, prompt=tokens).time
    assert time.prefill.planned_ms == pytest.approx(measured_ms, rel=0.2)


def test_a_processor_is_planned_with_what_was_measured_on_it() -> None:
    speeds = processor_speeds(read_gbps=68, float_gflops=440, int8_gops=1700, quantised=True)
    task = Task(
        model=PUBLISHED_NAME,
        facts=PUBLISHED,
        request=Request(patches=(), prompt_tokens=200, answer_tokens=112),
        max_context=4096,
    )
    storage = storage_of(replace(precision("int4"), lm_head="int8"), activations="float32")
    plan = make_plan(find("cpu"), storage, task, speeds=speeds, available_bytes=20 * 10**9)
    # Measured there: 204 ms for a token at 256 positions.
    assert plan.time.token.planned_ms == pytest.approx(204, rel=0.2)
    assert plan.memory.fits
    assert plan.with_context(32768).memory.available_bytes == 20 * 10**9


def test_what_no_engine_computes_and_what_is_not_known_are_refused() -> None:
    with pytest.raises(DeviceError, match="computes fp32 with no engine"):
        fp32 = storage_of(precision("fp32"), activations="float32")
        make_plan(find("orin"), fp32, planned("orin").task)
    with pytest.raises(DeviceError, match="no rate for nvfp4"):
        planned("orin", "nvfp4")
    with pytest.raises(DeviceError, match="stored as 'int3'"):
        storage_of(replace(precision("int4"), decoder="int3"), activations="float16")


def test_a_request_that_does_not_fit_its_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextLengthError, match="1344 positions.*the context has 1024"):
        planned("orin", context=1024)
    with pytest.raises(ContextLengthError, match="has 32768"):
        planned("orin", context=40_000)


def test_an_export_for_a_board_that_is_too_small_is_refused_with_what_would_do() -> None:
    with pytest.raises(DeviceError, match="int4 needs 13.7 GB at 8192 positions.*orin-nano-8 has 8.0 GB") as refused:
        require_fit(find("orin-nano"), PUBLISHED, precision("int4"), activations="float16", max_context=8192)
    assert "--target agx-orin-64" in str(refused.value.remedy)
    require_fit(find("orin"), PUBLISHED, precision("int4"), activations="float16", max_context=8192)
    require_fit(find("cpu"), PUBLISHED, precision("fp32"), activations="float32", max_context=32768)


def test_wider_linears_count_by_their_size() -> None:
    name = "model.layers.0.mlp.gate_up_proj.weight"
    plain, wider = precision("int4"), replace(precision("int4"), wider={name: "float16"})
    sizes = [sizes_of(PUBLISHED, storage_of(one, activations="float16", facts=PUBLISHED)) for one in (plain, wider)]
    weights = 2 * PUBLISHED.hidden_size * PUBLISHED.intermediate_size
    more_bytes = weights * (16 - 4 - 16 / 128) / 8
    assert sizes[1].decoder_bytes - sizes[0].decoder_bytes == pytest.approx(more_bytes, rel=1e-6)
