"""Which GPUs share an engine, and what is refused for some of them."""

from dataclasses import replace

import pytest

from phiedge.bundle import Manifest
from phiedge.engines.tensorrt.families import check_precision, families, family_name, parse_sms
from phiedge.errors import UsageError

KNOWN = (75, 80, 86, 89, 120, 121)


def test_compute_capabilities_are_read_in_order_and_once() -> None:
    assert parse_sms("120,86,120") == (120, 86)


@pytest.mark.parametrize("text", ["", "8.6", "86,", "86;89", "sm86", "-86", "0", "1234"])
def test_what_is_no_list_of_compute_capabilities_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no list of compute capabilities"):
        parse_sms(text)


@pytest.mark.parametrize(
    ("sms", "expected"),
    [
        ((86, 89, 120), ["sm86", "sm89+sm120"]),
        ((120,), ["sm89+sm120"]),
        ((89, 86), ["sm89+sm120", "sm86"]),
        ((80, 86, 121), ["sm80", "sm86", "sm121"]),
    ],
)
def test_89_and_120_share_an_engine_and_every_other_gpu_has_its_own(sms: tuple[int, ...], expected: list[str]) -> None:
    assert [family_name(family) for family in families(sms, known=KNOWN, library="TensorRT-RTX 1.7")] == expected


def test_a_family_has_only_what_the_library_knows() -> None:
    assert families((89,), known=(86, 89), library="TensorRT-RTX 1.7") == [(89,)]


def test_an_unknown_gpu_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"TensorRT-RTX 1\.7 does not build for SM 87") as caught:
        families((86, 87), known=KNOWN, library="TensorRT-RTX 1.7")
    assert "it builds for 75, 80, 86, 89, 120, 121;" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("family", "part", "stored", "message"),
    [
        ((86,), "decoder", "float8", "the decoder is stored as FP8, and SM 86 has no FP8 units: they begin with SM 89"),
        ((86,), "lm_head", "float8", "the lm_head is stored as FP8"),
        ((75,), "decoder", "int4", "the decoder is stored as int4, which TensorRT-RTX does not build for SM 75"),
        ((75,), "vision", "bfloat16", "the vision is stored as bfloat16"),
    ],
)
def test_weights_that_a_gpu_has_no_products_for_are_refused_by_name(
    plain_manifest: Manifest, family: tuple[int, ...], part: str, stored: str, message: str
) -> None:
    halves = dict.fromkeys(("vision", "projector", "decoder", "lm_head"), "float16")
    precision = replace(plain_manifest.precision, **{**halves, part: stored})
    with pytest.raises(UsageError, match=message):
        check_precision(family, precision)
    if stored == "float8":
        check_precision((89, 120), precision)
