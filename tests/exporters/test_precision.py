from dataclasses import replace

import pytest

from phiedge.errors import UsageError
from phiedge.exporters.precision import FP8_SM, FP16, INT4, PLANS, choose_precision, for_tensorrt


@pytest.mark.parametrize(
    ("sm", "group_size", "activations"),
    [
        (None, 128, "float32"),
        (87, 128, "float32"),
        (110, 128, "float32"),
        (86, 128, "float16"),
        (120, 128, "float16"),
    ],
)
def test_auto_is_int4_with_the_groups_and_activations_that_the_target_wants(sm, group_size, activations) -> None:
    plan = choose_precision("auto", sm=sm).plan
    for_gpu = {} if sm is None else {"lm_head": "int4", "codes": "signed"}
    assert plan == replace(INT4, group_size=group_size, activations=activations, **for_gpu)
    assert plan.for_cuda == (activations == "float16")


def test_norms_are_float32_in_every_plan() -> None:
    assert {plan.norms for plan in PLANS.values()} == {"float32"}


def test_auto_says_where_fp8_can_be_had() -> None:
    assert "fp8" in (choose_precision("auto", sm=120).note or "")
    assert choose_precision("auto", sm=87).note is None
    assert choose_precision("int4", sm=120).note is None


@pytest.mark.parametrize("sm", FP8_SM)
def test_fp8_is_for_gpus_with_units_for_it_in_float16_on_tensorrt_and_float32_on_a_cpu(sm) -> None:
    plan = choose_precision("fp8", sm=sm).plan
    assert (plan.decoder, plan.lm_head, plan.activations, plan.for_cuda) == ("float8", "float16", "float32", False)
    assert for_tensorrt(plan) == replace(plan, activations="float16")


def test_fp8_is_not_for_a_processor() -> None:
    with pytest.raises(UsageError, match="a CPU has no units for fp8"):
        choose_precision("fp8", sm=None)


@pytest.mark.parametrize(("widths", "group_size"), [({5120, 17920}, 128), ({128, 448}, 64), ({64, 96}, 32), ({72}, 32)])
def test_on_a_cpu_the_group_is_the_largest_that_divides_every_width(widths, group_size) -> None:
    assert choose_precision("int4", sm=None, widths=widths).plan.group_size == group_size
    assert choose_precision("int4", sm=87, widths=widths).plan.group_size == 128


def test_a_smaller_group_can_be_asked_for() -> None:
    assert choose_precision("int4", sm=87, group_size=64).plan.group_size == 64


@pytest.mark.parametrize(
    ("name", "options", "message", "remedy"),
    [
        ("fp8", {}, "a GPU of SM 87 has no units for fp8: GPUs have them from SM 89 on", "use --precision int4"),
        ("int3", {}, "unknown precision 'int3'", "use one of auto, fp32, fp16, fp8, int4"),
        ("fp16", {"group_size": 32}, "fp16 has no groups", "leave the group size out"),
        ("int4", {"group_size": 48}, "a group of 48 weights", "use one of 128, 64, 32"),
        ("int4", {"group_size": 0}, "a group of 0 weights", "use one of 128, 64, 32"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(name, options, message, remedy) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        choose_precision(name, sm=87, **options)
    assert remedy in (caught.value.remedy or "")


def test_the_manifest_records_the_plan_with_the_checkpoints_own_embeddings() -> None:
    record = INT4.record(embed_tokens="bfloat16")
    assert (record.name, record.decoder, record.lm_head, record.embed_tokens) == ("int4", "int4", "int8", "bfloat16")
    assert record.group_size == 32


def test_only_int4_has_integers() -> None:
    assert {name: (plan.decoder_bits, plan.lm_head_bits) for name, plan in PLANS.items()} == {
        "fp32": (None, None),
        "fp16": (None, None),
        "fp8": (None, None),
        "int4": (4, 8),
    }
    assert FP16.group_size is None
