"""How much memory and disk the exporter takes, told before it begins.

Measured with release 0.11.0 at the published width: 3.13 GB with one layer and 3.55 with two, of which a layer is 2.4
times its codes and scales, as it holds them as it read them and as it writes them; and 3.25 GB with one layer and a
small vocabulary, for most of the rest is what the largest weight takes while it is put in order. Embeddings and head
are only touched afterwards. For the 40 layers that makes 19.7 GB.
"""

from phiedge.bundle import ModelFacts
from phiedge.devices.memory_limits import require_memory
from phiedge.engines.edge_llm.structure import linear_sizes
from phiedge.engines.edge_llm.versions import GROUP_SIZE, PACKAGE

LIBRARIES_BYTES = 500_000_000  # Python, torch, and the graph without weights
_COPIES_OF_LAYERS, _COPIES_OF_TABLES = 2.4, 1.1
_IN_ORDER_BYTES = 25  # of each weight of the largest linear, while it is put in order
_MAPPED_BYTES = 8_000_000_000  # libraries and files, whatever the model


def int4_bytes(facts: ModelFacts) -> int:
    """Codes and scales of all layers."""
    weights = sum(n * k for n, k in linear_sizes(facts).values()) * facts.num_layers
    return weights // 2 + weights // GROUP_SIZE * 2


def table_bytes(facts: ModelFacts) -> int:
    """Embeddings or head, in float16."""
    return 2 * facts.vocab_size * facts.hidden_size


def exporter_bytes(facts: ModelFacts) -> int:
    """The exporter's peak."""
    largest = max(n * k for n, k in linear_sizes(facts).values())
    last = max(_IN_ORDER_BYTES * largest, _COPIES_OF_TABLES * 2 * table_bytes(facts))
    return LIBRARIES_BYTES + int(_COPIES_OF_LAYERS * int4_bytes(facts) + last)


def written_bytes(facts: ModelFacts, *, vision_bytes: int) -> int:
    """What a build needs on the disk at its largest: the checkpoint, the decoder's files, and the vision graph's."""
    return 2 * (int4_bytes(facts) + 2 * table_bytes(facts)) + vision_bytes + 50_000_000


def require_memory_to_export(facts: ModelFacts) -> None:
    """Refuse what this machine cannot hold. Raises `DeviceError`."""
    needed_bytes = exporter_bytes(facts)
    require_memory(
        f"{PACKAGE} on this model",
        resident_bytes=needed_bytes,
        mapped_bytes=needed_bytes + _MAPPED_BYTES,
        remedy="free some, or build on a larger machine and copy the bundle: it needs no GPU",
    )
