from phiedge.progress import silent


def test_silent_progress_takes_every_count_and_says_nothing() -> None:
    with silent.task("weights", 3, "tensors") as advance:
        advance(1)
        advance(2)
