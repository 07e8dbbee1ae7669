import threading

import numpy as np
import pytest

from phiedge.exporters.random_values import TILE_ELEMENTS, Bits, RandomValues, to_bfloat16

COUNT = 3 * TILE_ELEMENTS + 123
KEPT = [48316, 15575, 48377, 15495, 15435, 15660, 15592, 15662]
KEPT_FAR = [48776, 49189, 48958, 48965]


@pytest.fixture(scope="module")
def values() -> RandomValues:
    return RandomValues(0)


def made(values: RandomValues, name: str = "a", start: int = 0, count: int = COUNT, std: float = 0.02) -> Bits:
    out = np.empty(count, np.uint16)
    values.normal(name, start, out, std=std)
    return out


def widened(bits: Bits) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("start", [0, 1, TILE_ELEMENTS - 1, TILE_ELEMENTS, 2 * TILE_ELEMENTS + 7, COUNT - 1])
@pytest.mark.parametrize("count", [1, 100, TILE_ELEMENTS, TILE_ELEMENTS + 1])
def test_a_part_is_the_same_as_in_the_whole(values: RandomValues, start: int, count: int) -> None:
    count = min(count, COUNT - start)
    np.testing.assert_array_equal(made(values, start=start, count=count), made(values)[start : start + count])


def test_any_split_in_any_order_gives_the_same(values: RandomValues) -> None:
    random = np.random.default_rng(1)
    cuts = [0, *sorted(random.choice(COUNT, 20, replace=False).tolist()), COUNT]
    pieces = np.empty(COUNT, np.uint16)
    for place in random.permutation(len(cuts) - 1):
        start, stop = cuts[place], cuts[place + 1]
        pieces[start:stop] = made(values, start=start, count=stop - start)
    np.testing.assert_array_equal(pieces, made(values))


def test_threads_and_another_object_give_the_same(values: RandomValues) -> None:
    fresh = RandomValues(0)
    found: list[Bits] = []
    threads = [threading.Thread(target=lambda: found.append(made(fresh))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, made(values))


def test_the_values_are_those_of_every_machine_and_version(values: RandomValues) -> None:
    """Kept so that a resumed export, or a directory written elsewhere, has the same weights."""
    assert made(values, count=8).tolist() == KEPT
    assert made(values, "b", start=10**10, count=4, std=1.0).tolist() == KEPT_FAR


def test_names_seeds_and_tiles_differ(values: RandomValues) -> None:
    one = widened(made(values))
    tiles = one[: 3 * TILE_ELEMENTS].reshape(3, TILE_ELEMENTS)
    others = [widened(made(values, "b")), widened(made(RandomValues(1))), np.roll(one, TILE_ELEMENTS)]
    for other in others:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
    assert np.abs(np.corrcoef(tiles) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("std", [0.02, 0.0022, 1.0])
def test_they_are_normal_finite_and_not_zero(values: RandomValues, std: float) -> None:
    found = widened(made(values, count=20 * TILE_ELEMENTS, std=std)).astype(np.float64) / std
    assert np.isfinite(found).all()
    assert found.all()
    assert abs(found.mean()) < 0.005
    assert abs(found.std() - 1) < 0.02
    # The shares beyond 1, 2 and 3 of a normal distribution, and its fourth moment.
    for bound, share in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert abs((np.abs(found) > bound).mean() - share) < 0.1 * share + 0.01
    assert abs((found**4).mean() / found.var() ** 2 - 3) < 0.2


def test_a_matrix_of_them_has_the_rank_and_the_largest_singular_value_of_a_random_one(values: RandomValues) -> None:
    matrix = widened(made(values, count=256 * 512, std=1.0)).reshape(256, 512)
    singular = np.linalg.svd(matrix, compute_uv=False)
    assert abs(singular[0] / (512**0.5 + 256**0.5) - 1) < 0.1  # the bounds of Marchenko and Pastur
    assert abs(singular[-1] / (512**0.5 - 256**0.5) - 1) < 0.2


def test_rounding_to_bfloat16_is_to_the_nearest_and_ties_go_to_even() -> None:
    exact = np.array([1.0, -2.5, 2.0**-30], np.float32)
    np.testing.assert_array_equal(widened(to_bfloat16(exact)), exact)
    step = 2.0**-7
    halves = np.array([1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step, 1 + 0.49 * step], np.float32)
    np.testing.assert_array_equal(widened(to_bfloat16(halves)), np.float32([1, 1 + 2 * step, 1 + step, 1]))
