"""How much a run of a model has to do at least: arithmetic, and bytes that come from memory.

Formulas for any model of the architecture, from its facts alone. A multiply-add counts as two operations; biases,
norms, activations and rotary positions are left out, as they are below a thousandth. Nothing here knows of a machine;
what the work takes on one is `roofline.py`.
"""

from dataclasses import dataclass

from phiedge.bundle import ModelFacts

_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """`weight_flop`: products with weights. `attention_flop`: products of activations. `read_bytes`: from memory.

    The two kinds of products are kept apart because a quantised model computes only the first with small integers.
    """

    weight_flop: int
    attention_flop: int
    read_bytes: int

    def __post_init__(self) -> None:
        assert min(self.weight_flop, self.attention_flop, self.read_bytes) >= 0

    @property
    def flop(self) -> int:
        return self.weight_flop + self.attention_flop

    def __add__(self, other: "Work") -> "Work":
        """The work of one run after the other."""
        return Work(
            weight_flop=self.weight_flop + other.weight_flop,
            attention_flop=self.attention_flop + other.attention_flop,
            read_bytes=self.read_bytes + other.read_bytes,
        )


def decode_work(facts: ModelFacts, *, context: int, weights_bytes: int, position_bytes: int) -> Work:
    """One token over `context` positions, itself included; bytes as of `prefill_work`."""
    return prefill_work(facts, tokens=1, past=context - 1, weights_bytes=weights_bytes, position_bytes=position_bytes)


def prefill_work(facts: ModelFacts, *, tokens: int, past: int, weights_bytes: int, position_bytes: int) -> Work:
    """One chunk of `tokens` after `past` positions, with the logits of its last token.

    `weights_bytes` is all that the decoder's graph multiplies by, as stored; `position_bytes` is what one position
    takes in the cache (`cache_bytes`). Attention is causal: of a chunk's own square of scores, half is needed.
    """
    assert tokens >= 1
    assert past >= 0
    per_token = 2 * facts.num_layers * layer_weights(facts)
    head = 2 * facts.vocab_size * facts.hidden_size
    # Scores and their sum over values: two products of num_heads * head_dim per pair of positions.
    per_pair = 4 * facts.num_layers * facts.num_heads * facts.head_dim
    pairs = past * tokens + (tokens * tokens + 1) // 2
    return Work(
        weight_flop=per_token * tokens + head,
        attention_flop=per_pair * pairs,
        read_bytes=weights_bytes + position_bytes * (past + tokens),
    )


def chunked_prefill_work(
    facts: ModelFacts, *, tokens: int, chunk_tokens: int, weights_bytes: int, position_bytes: int
) -> tuple[Work, ...]:
    """A prompt of `tokens`, one entry per chunk: each reads all weights again, and the cache so far."""
    return tuple(
        prefill_work(
            facts,
            tokens=min(chunk_tokens, tokens - past),
            past=past,
            weights_bytes=weights_bytes,
            position_bytes=position_bytes,
        )
        for past in range(0, tokens, chunk_tokens)
    )


def vision_work(facts: ModelFacts, *, patches: int, weights_bytes: int) -> Work:
    """One picture of `patches` through the encoder and the projector; every patch sees every other."""
    return Work(
        weight_flop=2 * vision_weights(facts) * patches,
        attention_flop=4 * facts.vision_layers_used * facts.vision_hidden_size * patches * patches,
        read_bytes=weights_bytes,
    )


def cache_bytes(facts: ModelFacts, *, positions: int, item_bytes: int) -> int:
    """Keys and values of `positions` positions in all layers, at `item_bytes` for each number."""
    return 2 * facts.num_layers * facts.num_kv_heads * facts.head_dim * item_bytes * positions


def rotary_bytes(facts: ModelFacts, *, positions: int, item_bytes: int) -> int:
    """The tables of rotary positions, cosine and sine; a run reads one row of them per token."""
    return 2 * positions * (facts.head_dim // 2) * item_bytes


def layer_weights(facts: ModelFacts) -> int:
    """The weights of one decoder layer's linears: query, key, value, output, gate, up and down."""
    heads = facts.num_heads + 2 * facts.num_kv_heads
    attention = facts.hidden_size * facts.head_dim * (heads + facts.num_heads)
    return attention + 3 * facts.hidden_size * facts.intermediate_size


def vision_weights(facts: ModelFacts) -> int:
    """The weights of the vision encoder, as far as it runs, and of the projector."""
    width = facts.vision_hidden_size
    patch_values = _CHANNELS * facts.patch_size**2
    block = 4 * width * width + 2 * width * facts.vision_intermediate_size
    projector = width * facts.hidden_size + facts.hidden_size * facts.hidden_size
    return width * patch_values + facts.vision_layers_used * block + projector
