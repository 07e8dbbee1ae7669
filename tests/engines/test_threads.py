import os
from pathlib import Path

import pytest

from phiedge.engines.threads import check_threads, default_threads
from phiedge.errors import UsageError


def test_two_processors_of_one_core_count_once(tmp_path: Path) -> None:
    for processor in os.sched_getaffinity(0):
        topology = tmp_path / f"cpu{processor}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text("0-63\n")
    assert default_threads(tmp_path) == 1


def test_without_a_topology_every_processor_is_a_core(tmp_path: Path) -> None:
    assert default_threads(tmp_path) == len(os.sched_getaffinity(0))


def test_this_machine_has_at_least_one_core() -> None:
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads: int) -> None:
    with pytest.raises(UsageError, match=f"threads must be from 1 to .* on this machine, not {threads}"):
        check_threads(threads)


def test_more_threads_than_cores_are_allowed() -> None:
    check_threads(1)
    check_threads(16)
