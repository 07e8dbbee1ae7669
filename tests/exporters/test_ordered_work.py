import threading
from collections.abc import Iterator

import pytest

from phiedge.exporters.ordered_work import in_order


class Items:
    """Numbers, each of which must be let go; counts how many are out at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.lock = threading.Lock()
        self.out: set[int] = set()
        self.most_out = 0
        self.released: list[int] = []

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            with self.lock:
                self.out.add(number)
                self.most_out = max(self.most_out, len(self.out))
            yield number

    def release(self, number: int) -> None:
        with self.lock:
            self.out.remove(number)
            self.released.append(number)


def run(items: Items, work, *, threads: int = 3, in_flight: int = 5):
    return in_order(iter(items), work, release=items.release, threads=threads, in_flight=in_flight)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_come_in_the_order_of_the_items_whoever_is_first(threads: int) -> None:
    late = threading.Event()

    def work(number: int) -> int:
        if number == 0 and threads > 1:
            late.wait(10)
        elif number == 1:
            late.set()
        return number * number

    items = Items(50)
    assert list(run(items, work, threads=threads)) == [(number, number * number) for number in range(50)]
    assert items.released == list(range(50))


def test_no_more_items_exist_than_are_allowed() -> None:
    items = Items(200)
    for _ in run(items, lambda number: number, in_flight=5):
        pass
    assert items.most_out <= 5


def test_an_error_of_the_work_comes_where_its_item_would_have_come() -> None:
    def work(number: int) -> int:
        if number >= 7:
            raise ValueError(f"number {number}")
        return number

    items, seen = Items(100), []
    with pytest.raises(ValueError, match="number 7"):
        for number, _ in run(items, work):
            seen.append(number)
    assert seen == list(range(7))
    assert items.out == set()


def test_an_error_of_the_source_comes_after_what_it_gave_before() -> None:
    items = Items(3)

    def broken() -> Iterator[int]:
        yield from items
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for number, _ in in_order(broken(), abs, release=items.release, threads=2, in_flight=4):
            seen.append(number)
    assert seen == [0, 1, 2]
    assert items.out == set()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_whoever_stops_in_the_middle_leaves_nothing_behind(interruption: type[BaseException]) -> None:
    before = threading.active_count()
    items = Items(10_000)
    results = run(items, lambda number: number)
    with pytest.raises(interruption):
        try:
            for number, _ in results:
                if number == 20:
                    raise interruption
        finally:
            results.close()
    assert items.out == set()
    assert threading.active_count() == before
