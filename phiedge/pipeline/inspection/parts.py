"""The files of a bundle by the part that they belong to, with their bytes and hashes as the manifest has them."""

from collections.abc import Iterable
from dataclasses import dataclass

from phiedge.bundle import FileEntry, Manifest

_PAGE = ".html"  # of a report, beside its data


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A file with the size and the hash that it was written with."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a bundle has for one purpose; a graph's part has its weights and the graph of every dialect."""

    name: str
    bytes: int
    files: tuple[PartFile, ...]


def parts(manifest: Manifest) -> tuple[Part, ...]:
    """Every part that the bundle has, in the order in which a question meets them."""
    dialects = manifest.dialects.values()
    graph_files = {
        "vision": _graph_files(manifest, [dialect.vision for dialect in dialects]),
        "decoder": _graph_files(manifest, [dialect.decoder for dialect in dialects]),
    }
    single = {
        "embeddings": manifest.embed_tokens.file,
        "positions": manifest.positions.file,
        "tokenizer": manifest.tokenizer,
        "template": manifest.chat_template,
        "goldens": manifest.goldens,
        "report": manifest.quantization,
    }
    named = graph_files | {name: {file: manifest.files[file]} for name, file in single.items() if file is not None}
    if manifest.quantization is not None:
        page = manifest.quantization.removesuffix(".json") + _PAGE
        named["report"] |= {page: manifest.files[page]} if page in manifest.files else {}
    return tuple(_part(name, files) for name, files in named.items())


def _graph_files(manifest: Manifest, graphs: Iterable[str]) -> dict[str, FileEntry]:
    """The graphs, behind the weights that they read."""
    found: dict[str, FileEntry] = {}
    for graph in graphs:
        found |= manifest.graph_files(graph)
    return dict(sorted(found.items(), key=lambda item: (item[0].endswith(".onnx"), item[0])))


def _part(name: str, files: dict[str, FileEntry]) -> Part:
    listed = tuple(PartFile(path=path, bytes=entry.bytes, sha256=entry.sha256) for path, entry in files.items())
    return Part(name=name, bytes=sum(file.bytes for file in listed), files=listed)
