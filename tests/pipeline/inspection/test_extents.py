from hypothesis import given
from hypothesis import strategies as st

from phiedge.pipeline.inspection.extents import Extent, covered_bytes, sharing

RUNS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(0, 12)), max_size=12)


def extents(*runs: tuple[str, int, int]) -> list[Extent]:
    return [Extent(file=file, begin=begin, end=begin + length) for file, begin, length in runs]


def bytes_of(found: list[Extent]) -> set[tuple[str, int]]:
    return {(extent.file, place) for extent in found for place in range(extent.begin, extent.end)}


def test_bytes_that_overlap_count_once() -> None:
    assert covered_bytes(extents(("a", 0, 10), ("a", 5, 10), ("a", 5, 2), ("b", 0, 1), ("a", 15, 5))) == 21
    assert covered_bytes([]) == 0


def test_what_two_dialects_read_together_is_stored_once() -> None:
    found = sharing(100, {"ort": extents(("a", 0, 60)), "tensorrt": extents(("a", 20, 60), ("b", 0, 5))})
    assert found.read_bytes == {"ort": 60, "tensorrt": 65}
    assert (found.stored_bytes, found.shared_bytes, found.saved_bytes, found.unread_bytes) == (100, 40, 40, 15)


def test_three_dialects_save_twice_what_all_of_them_read() -> None:
    found = sharing(10, dict.fromkeys("abc", extents(("f", 0, 10))))
    assert (found.shared_bytes, found.saved_bytes) == (10, 20)


def test_one_dialect_shares_nothing_also_where_its_graphs_do() -> None:
    found = sharing(10, {"ort": extents(("f", 0, 10), ("f", 0, 10))})
    assert (found.shared_bytes, found.saved_bytes, found.unread_bytes) == (0, 0, 0)


@given(st.lists(RUNS, max_size=3))
def test_it_is_what_counting_every_byte_gives(runs: list[list[tuple[str, int, int]]]) -> None:
    by_dialect = {str(number): extents(*of_dialect) for number, of_dialect in enumerate(runs)}
    read = {name: bytes_of(found) for name, found in by_dialect.items()}
    every = [place for places in read.values() for place in places]
    found = sharing(1000, by_dialect)
    assert found.read_bytes == {name: len(places) for name, places in read.items()}
    assert found.shared_bytes == len({place for place in every if every.count(place) > 1})
    assert found.saved_bytes == len(every) - len(set(every))
    assert found.unread_bytes == 1000 - len(set(every))
