from pathlib import Path

import pytest

from phiedge.devices.processor import VECTOR_SETS, this_processor


def test_the_sets_that_matter_are_named_in_one_order(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t: fpu avx512f sse avx2 avx512_vnni\n\nprocessor : 1\nflags\t: sse\n")
    assert this_processor(cpuinfo=cpuinfo).instruction_sets == ("avx2", "avx512f", "avx512_vnni")


def test_arm_calls_them_features(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp i8mm\n")
    assert this_processor(cpuinfo=cpuinfo).instruction_sets == ("asimd", "asimddp", "i8mm")


@pytest.mark.parametrize("text", [None, "", "nothing of the kind\n"])
def test_what_is_not_told_is_not_guessed(tmp_path: Path, text: str | None) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert this_processor(cpuinfo=cpuinfo).instruction_sets == ()


def test_this_machine_has_sets_that_are_known() -> None:
    assert set(this_processor().instruction_sets) <= set(VECTOR_SETS)
