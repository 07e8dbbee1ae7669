from pathlib import Path

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle
from phiedge.cli.realtime_option import read_wishes
from phiedge.errors import UsageError
from phiedge.runtime.realtime import RealtimePolicy


def test_wishes_are_read_as_they_are_written() -> None:
    assert read_wishes(None) is None
    assert read_wishes("cpus=2-3,cpus=5, fifo=10,lock,warm,warm=640x480,freeze,check") == RealtimePolicy(
        cpus=(2, 3, 5),
        fifo_priority=10,
        lock_memory=True,
        warm_up=((640, 480),),
        freeze_garbage=True,
        check_allocation=True,
    )
    assert read_wishes("warm") == RealtimePolicy(warm_up=())


@pytest.mark.parametrize("text", ["", "hope", "fifo", "fifo=high", "lock=yes", "warm=5", "cpus=a-b", "fifo=99"])
def test_wishes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_wishes(text)


def test_a_run_tells_what_became_of_its_wishes(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", tiny_bundle.path, "-p", "hi", "--think", "off", "--max-new-tokens", 1, "--max-context", 256)
    told = tell(capsys, *words, "--realtime", "warm,cpus=100000")
    assert "realtime cpus: refused, " in told.err
    assert "realtime warm_up: applied, 1 shapes took " in told.err
    found = tell(capsys, *words, "--realtime", "warm", "--json").json["realtime"]
    assert [(wish["wish"], wish["status"]) for wish in found] == [("warm_up", "applied")]


def test_unknown_wishes_are_usage(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for verb in (("run", tiny_bundle.path, "-p", "hi"), ("profile", tiny_bundle.path)):
        assert assert_refused(capsys, *verb, "--realtime", "hope", code=2) == "--realtime does not know 'hope'"
