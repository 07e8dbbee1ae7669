"""The bundle: one portable folder with everything that a device needs, every file hashed in `manifest.json`.

    manifest.json            schema version, provenance, the model's facts, precision, and the hash of every file
    vision.<dialect>.onnx    patches and position embeddings to rows of features; weights in vision.data
    decoder.<dialect>.onnx   embeddings and cache to the last token's logits; weights in decoder.data, for all dialects
    embed_tokens.bin         the embedding table, to be memory-mapped; position_table.bin likewise
    tokenizer.json, chat_template.jinja
    goldens.npz, quantization.json
    engines/, profiles/      made later, on the device, with stamps of their own

Reading and writing need the standard library only: no numpy, no torch, no ONNX. There is no pickle in a bundle and no
code to execute.
"""

from phiedge.bundle.facts import Generation, ModelFacts
from phiedge.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Dialect,
    FileEntry,
    Manifest,
    ModelSource,
    Precision,
    Table,
    data_name,
)
from phiedge.bundle.reading import Bundle, Problem, hash_file
from phiedge.bundle.writing import BundleWriter

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Bundle",
    "BundleWriter",
    "Dialect",
    "FileEntry",
    "Generation",
    "Manifest",
    "ModelFacts",
    "ModelSource",
    "Precision",
    "Problem",
    "Table",
    "data_name",
    "hash_file",
]
