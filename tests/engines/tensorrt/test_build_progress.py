"""How far a build is, from phases in one another."""

from phiedge.engines.tensorrt.build_progress import BuildProgress


def test_a_step_is_as_far_as_its_own_phases_are() -> None:
    progress = BuildProgress()
    progress.start("whole", 4)
    progress.step("whole")
    assert progress.share == 0.25
    progress.start("part", 2)
    progress.step("part")
    assert progress.share == 0.25 + 0.25 / 2
    progress.start("piece", 2)
    progress.step("piece")
    assert progress.share == 0.25 + 0.25 * (1 / 2 + 1 / 4)
    progress.finish("part")
    progress.step("whole")
    assert progress.share == 0.5


def test_it_never_goes_back_nor_beyond_the_end() -> None:
    progress = BuildProgress()
    progress.start("whole", 1)
    progress.start("part", 2)
    progress.step("part")
    assert progress.share == 0.5
    progress.finish("part")
    assert progress.share == 0.5, "the part's phase has ended, its step is not told yet"
    for _ in range(3):
        progress.step("whole")
    assert progress.share == 1


def test_what_was_never_started_changes_nothing() -> None:
    progress = BuildProgress()
    progress.step("nothing")
    progress.finish("nothing")
    assert progress.share == 0
    progress.start("empty", 0)
    progress.step("empty")
    assert progress.share == 1
