import torch

from phiedge.calibration.folding import Folding
from phiedge.calibration.smoothing import each_column


def test_heads_that_share_their_values_share_factors(oracle_checkpoint) -> None:
    config = oracle_checkpoint.config
    pooled = Folding(config=config).pool("o")(torch.rand(config.hidden_size))
    shared = pooled.view(config.num_kv_heads, -1, config.head_dim)
    assert torch.equal(shared, shared[:, :1].expand_as(shared))


def test_other_linears_have_a_factor_for_each_column(oracle_checkpoint) -> None:
    assert Folding(config=oracle_checkpoint.config).pool("down") is each_column


def test_only_rows_of_values_and_of_up_are_changed(oracle_checkpoint) -> None:
    config = oracle_checkpoint.config
    folding = Folding(config=config)
    before_values = (config.num_heads + config.num_kv_heads) * config.head_dim
    factors = folding.pool("o")(torch.full((config.hidden_size,), 4.0))
    rows = folding.upstream_rows("o", factors)
    assert rows.shape == (before_values + config.num_kv_heads * config.head_dim,)
    assert bool((rows[:before_values] == 1).all())
    assert bool((rows[before_values:] == 0.25).all())
    rows = folding.upstream_rows("down", torch.full((config.intermediate_size,), 2.0))
    assert bool((rows[: config.intermediate_size] == 1).all())
    assert bool((rows[config.intermediate_size :] == 0.5).all())
