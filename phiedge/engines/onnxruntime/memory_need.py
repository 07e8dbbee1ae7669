"""What opening a bundle on the CPU takes, known before anything is opened.

Seen with ONNX Runtime 1.31: packed integers have a sum beside the scale of every group, and float16 weights of the
vision graph are kept as float32. Codes with a sign are turned into codes with an offset before any is packed, and
each of those is let go once it is packed: that takes no more (9.5 GB at most for the 15B, for which 10.1 are asked).
8-bit floats become float32: a processor has no product of them.
Those are the process's own memory; the files that they come from are mapped besides, and their pages can be dropped. A
built engine's packed weights are only mapped.
"""

from phiedge.bundle import Bundle, Dialect, Precision
from phiedge.devices.memory_limits import require_memory
from phiedge.devices.work import cache_bytes
from phiedge.engines.engine_record import BuiltEngine

_CODE_BYTES, _SCALE_BYTES = 0.5, 4
_ALIGNED = 1.02  # packed blocks are rounded up
_ITEM_BYTES = {"float32": 4, "float16": 2}
_STORED_BYTES = {**_ITEM_BYTES, "int8": 1, "float8": 1}
_CACHE_BYTES = 1  # of a number in a cache of 8 bits
_MOST_AT_HAND = 0.03  # of the weights: what a chunk and a picture compute in


def require_memory_to_open(bundle: Bundle, dialect: Dialect, engine: BuiltEngine | None, *, capacity: int) -> None:
    """Refuse a bundle that does not fit into what this process may take. Raises `DeviceError` with the numbers."""
    manifest = bundle.manifest
    widened = _widened(manifest.precision.vision, dialect.activations)
    decoder_bytes, vision_bytes = (_data_bytes(bundle, graph) for graph in (dialect.decoder, dialect.vision))
    own_bytes = int(_packed(manifest.precision) * decoder_bytes + widened * vision_bytes)
    mapped_bytes = decoder_bytes + vision_bytes + manifest.embed_tokens.size_bytes
    at_hand_bytes = int(_MOST_AT_HAND * own_bytes)
    if engine is not None and engine.record.options.get("weights") == "packed":
        mapped_bytes = sum(entry.bytes for entry in engine.record.files.values()) + manifest.embed_tokens.size_bytes
        own_bytes = 0
    item_bytes = _ITEM_BYTES[dialect.activations]
    of_cache = item_bytes if manifest.precision.cache is None else _CACHE_BYTES
    cache = cache_bytes(manifest.facts, positions=capacity, item_bytes=of_cache)
    rows_bytes = capacity * manifest.facts.hidden_size * item_bytes
    resident_bytes = own_bytes + at_hand_bytes + cache + rows_bytes
    smaller = "" if capacity < 2048 else f"a smaller --max-context (now {capacity}, {cache / 1e6:,.0f} MB of it), "
    packed = "" if engine is not None else "`phiedge build`, whose weights are mapped and can be dropped, "
    require_memory(
        f"opening {bundle.path}",
        resident_bytes=resident_bytes,
        mapped_bytes=resident_bytes + mapped_bytes,
        remedy=f"{smaller}{packed}or a machine with more memory",
    )


def _widened(vision: str, activations: str) -> float:
    """What the vision graph's weights take, over what they take in the file."""
    if vision == "int8" and activations == "float32":
        return _ALIGNED  # multiplied as they are
    return _ITEM_BYTES[activations] / _STORED_BYTES[vision]


def _packed(precision: Precision) -> float:
    """What the decoder's weights take packed, over what they take in the file."""
    if precision.decoder == "float8":
        return _ALIGNED * _ITEM_BYTES["float32"]
    if precision.group_size is None:
        return _ALIGNED
    scale_bytes = _SCALE_BYTES / precision.group_size
    return _ALIGNED * (_CODE_BYTES + 2 * scale_bytes) / (_CODE_BYTES + scale_bytes)


def _data_bytes(bundle: Bundle, graph: str) -> int:
    return sum(entry.bytes for entry in bundle.manifest.graph_files(graph).values())
