import numpy as np
import pytest

from phiedge.errors import SessionError
from phiedge.runtime.kv_cache import KVCache


@pytest.fixture
def cache() -> KVCache:
    return KVCache(layers=3, kv_heads=2, capacity=10, head_dim=8, dtype=np.float32)


def test_all_layers_lie_in_one_aligned_allocation_without_overlap(cache: KVCache) -> None:
    views = [view for pair in cache.layer_views() for view in pair]
    addresses = [view.ctypes.data for view in views]
    assert addresses[0] % 64 == 0
    assert addresses == [addresses[0] + place * views[0].nbytes for place in range(6)]
    assert cache.size_bytes == sum(view.nbytes for view in views)
    for view in views:
        assert view.shape == (1, 2, 10, 8)
        assert view.flags.c_contiguous


def test_views_are_the_same_memory_every_time(cache: KVCache) -> None:
    cache.layer_views()[1][0][...] = 5.0
    assert (cache.layer_views()[1][0] == 5.0).all()


def test_the_length_moves_with_commits_and_back_with_clear(cache: KVCache) -> None:
    assert cache.length == 0
    cache.commit(7)
    cache.commit(3)
    assert cache.length == cache.capacity == 10
    cache.clear()
    assert cache.length == 0


@pytest.mark.parametrize("positions", [0, -1, 11])
def test_a_commit_beyond_the_capacity_is_a_defect(cache: KVCache, positions: int) -> None:
    with pytest.raises(AssertionError):
        cache.commit(positions)


def test_a_cache_that_does_not_fit_is_refused_with_its_size() -> None:
    with pytest.raises(SessionError, match=r"100000000 positions needs 4096000\.00 GB") as caught:
        KVCache(layers=400, kv_heads=100, capacity=10**8, head_dim=128, dtype=np.float32)
    assert "max_context" in str(caught.value.remedy)
