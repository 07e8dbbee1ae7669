import os
from pathlib import Path

from phiedge.engines.threads import default_threads


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
