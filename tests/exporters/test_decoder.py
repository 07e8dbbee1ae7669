import numpy as np
import pytest
import torch

from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.decoder import Decoder
from phiedge.exporters.rotary import rotary_tables
from phiedge.exporters.tensors import EMBEDDING_TABLE

MAX_CONTEXT = 640
CASES = ["text", "img1", "img1_think", "img1_nothink", "img2", "img2_swapped", "img1_trunc"]


class EagerDecoder:
    """The module with its caches, which start as NaN."""

    def __init__(self, module: Decoder, config) -> None:
        self.module, self.length = module, 0
        shape = (1, config.num_kv_heads, MAX_CONTEXT, config.head_dim)
        self.caches = [torch.full(shape, float("nan")) for _ in range(2 * config.num_layers)]

    def run(self, rows: np.ndarray) -> np.ndarray:
        """Append `rows: [t, hidden]`; returns the last one's logits."""
        self.length += len(rows)
        lengths = torch.tensor([self.length - 1], dtype=torch.int32), torch.tensor(self.length, dtype=torch.int32)
        logits, *self.caches = self.module(torch.tensor(rows)[None], *lengths, *self.caches)
        assert logits.shape[:2] == (1, 1)
        return logits[0, 0].numpy()


@pytest.fixture(scope="module")
def module(oracle_checkpoint: Checkpoint) -> Decoder:
    config = oracle_checkpoint.config
    decoder = Decoder(config, max_context=MAX_CONTEXT)
    cos, sin = rotary_tables(config.head_dim, config.rope_theta, MAX_CONTEXT)
    weights = {
        name: torch.tensor(oracle_checkpoint.float32(name)) for name in decoder.state_dict() if "_cache" not in name
    }
    decoder.load_state_dict(weights | {"cos_cache": torch.tensor(cos), "sin_cache": torch.tensor(sin)})
    return decoder.requires_grad_(False)


@pytest.fixture
def decoder(module, oracle_checkpoint) -> EagerDecoder:
    return EagerDecoder(module, oracle_checkpoint.config)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_are_the_publishers(decoder, oracle_checkpoint, oracle_arrays, oracle_cases, case):
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    logits = decoder.run(oracle_arrays[f"{case}/inputs_embeds"][0])
    np.testing.assert_allclose(logits, oracle_arrays[f"{case}/logits"][0, -1], rtol=0, atol=1e-3)
    tokens = []
    for step_logits in oracle_arrays[f"{case}/step_logits"]:
        np.testing.assert_allclose(logits, step_logits, rtol=0, atol=1e-3)
        tokens.append(int(logits.argmax()))
        logits = decoder.run(table[tokens[-1]][None])
    assert tokens == oracle_cases[case]["greedy"]


def test_the_caches_are_the_publishers_with_keys_after_rotation(decoder, oracle_arrays) -> None:
    decoder.run(oracle_arrays["img1/inputs_embeds"][0])
    for layer in (0, 2):
        for part, cache in zip("kv", decoder.caches[2 * layer : 2 * layer + 2], strict=True):
            expected = oracle_arrays[f"img1/{part}_cache_{layer}"]
            np.testing.assert_allclose(cache[:, :, : expected.shape[2]].numpy(), expected, rtol=0, atol=1e-4)


def test_every_prefix_of_a_prompt_has_the_logits_that_the_whole_prompt_has_there(decoder, oracle_arrays) -> None:
    rows = oracle_arrays["text/inputs_embeds"][0]
    for position, row in enumerate(rows):
        logits = decoder.run(row[None])
        np.testing.assert_allclose(logits, oracle_arrays["text/logits"][0, position], rtol=0, atol=1e-3)


def test_a_row_changes_nothing_before_it_also_within_a_picture(module, oracle_checkpoint, oracle_arrays) -> None:
    rows = oracle_arrays["img1/inputs_embeds"][0]
    nudged = rows.copy()
    nudged[67] += 1  # inside the picture
    before, after = (EagerDecoder(module, oracle_checkpoint.config) for _ in range(2))
    before.run(rows)
    after.run(nudged)
    for one, other in zip(before.caches, after.caches, strict=True):
        assert torch.equal(one[:, :, :67], other[:, :, :67])
    assert not torch.equal(before.caches[-1][:, :, 68:296], after.caches[-1][:, :, 68:296])


def test_its_parameters_are_the_decoder_tensors_that_the_architecture_uses(module, oracle_checkpoint) -> None:
    expected = {
        name: spec.shape
        for name, spec in oracle_checkpoint.config.tensors().items()
        if name.startswith(("model.layers.", "model.norm.", "lm_head."))
    }
    assert {name: tuple(value.shape) for name, value in module.named_parameters()} == expected
