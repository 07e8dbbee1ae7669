import pytest

from phiedge.runtime.kv_cache import KVCache


def test_the_length_moves_with_commits_and_back_with_clear() -> None:
    cache = KVCache(10)
    assert cache.length == 0
    cache.commit(7)
    cache.commit(3)
    assert cache.length == cache.capacity == 10
    cache.clear()
    assert cache.length == 0


@pytest.mark.parametrize("positions", [0, -1, 11])
def test_a_commit_beyond_the_capacity_is_a_defect(positions: int) -> None:
    with pytest.raises(AssertionError):
        KVCache(10).commit(positions)
