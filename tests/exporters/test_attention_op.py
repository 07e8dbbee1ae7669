import pytest
import torch

from phiedge.exporters.attention_op import cached_attention, rotate_half_split

HEADS, KV_HEADS, SIZE, CAPACITY = 4, 2, 8, 12


def random_chunk(rows: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, rows, (HEADS + 2 * KV_HEADS) * SIZE, generator=generator)


def empty_cache() -> torch.Tensor:
    return torch.full((1, KV_HEADS, CAPACITY, SIZE), float("nan"))


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(CAPACITY)[:, None] * 100.0 ** -(torch.arange(0, SIZE, 2) / SIZE)
    return angles.cos(), angles.sin()


def attend(qkv, key, value, total):
    lengths = torch.tensor([total - 1], dtype=torch.int32), torch.tensor(total, dtype=torch.int32)
    return cached_attention(qkv, key, value, *lengths, *tables(), HEADS, KV_HEADS, SIZE**-0.5)


def test_it_is_rotary_causal_grouped_attention() -> None:
    rows, key, value = attend(random_chunk(6), empty_cache(), empty_cache(), 6)
    heads = random_chunk(6)[0].view(6, HEADS + 2 * KV_HEADS, SIZE).transpose(0, 1)
    cos, sin = (table[:6] for table in tables())
    rotated = rotate_half_split(heads[: HEADS + KV_HEADS], cos, sin)
    expected = torch.nn.functional.scaled_dot_product_attention(
        rotated[None, :HEADS], rotated[None, HEADS:], heads[None, -KV_HEADS:], is_causal=True, enable_gqa=True
    )
    torch.testing.assert_close(rows, expected.transpose(1, 2).flatten(2))
    torch.testing.assert_close(key[0, :, :6], rotated[HEADS:])
    torch.testing.assert_close(value[0, :, :6], heads[-KV_HEADS:])


def test_chunks_agree_with_the_whole_and_rows_beyond_the_length_are_neither_read_nor_written() -> None:
    whole, whole_key, whole_value = attend(random_chunk(7), empty_cache(), empty_cache(), 7)
    first, key, value = attend(random_chunk(7)[:, :4], empty_cache(), empty_cache(), 4)
    second, key, value = attend(random_chunk(7)[:, 4:], key, value, 7)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole)
    torch.testing.assert_close(key, whole_key, equal_nan=True)
    torch.testing.assert_close(value, whole_value, equal_nan=True)
    assert key[:, :, 7:].isnan().all()


def test_rotation_pairs_an_element_with_the_one_half_a_head_away() -> None:
    x = torch.zeros(1, SIZE)
    x[0, 1] = 1
    quarter_turn = torch.zeros(1, SIZE // 2), torch.ones(1, SIZE // 2)
    assert rotate_half_split(x, *quarter_turn)[0].nonzero().tolist() == [[1 + SIZE // 2]]


def test_the_cache_that_comes_in_is_left_as_it_was() -> None:
    key = empty_cache()
    attend(random_chunk(3), key, empty_cache(), 3)
    assert key.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_its_shapes_under_tracing_are_those_of_the_reference(dtype) -> None:
    cache = torch.zeros(1, KV_HEADS, CAPACITY, SIZE, dtype=dtype)
    cos, sin = (table.to(dtype) for table in tables())
    lengths = torch.tensor([4], dtype=torch.int32), torch.tensor(5, dtype=torch.int32)
    arguments = (random_chunk(5).to(dtype), cache, cache.clone(), *lengths, cos, sin, HEADS, KV_HEADS, 0.5)
    torch.library.opcheck(cached_attention, arguments, test_utils=("test_schema", "test_faketensor"))
