"""What a build for Edge-LLM leaves in a bundle: its name, its record, and the commands that build on the device."""

from collections.abc import Mapping
from dataclasses import dataclass

from phiedge.bundle import Bundle, FileEntry
from phiedge.bundle.manifest import VISION_EIGHT_BITS
from phiedge.engines.edge_llm.device_files import device_commands
from phiedge.engines.edge_llm.tool import Exporter
from phiedge.engines.edge_llm.versions import GROUP_SIZE
from phiedge.engines.engine_record import EngineRecord
from phiedge.errors import BundleError

BACKEND = ENGINE_NAME = "edge-llm"
LANGUAGE, VISUAL, GRAPH = "llm", "visual", "model.onnx"
DIALECT, OUR_DIALECT = "tensorrt", "ort"
CHECKS = "checks.json"
PICTURES = 2  # in one request, that the vision engine is given room for
_STEP = 64  # its kernels take products whose sides are multiples of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What the build was held to: weights that are the bundle's to the bit, the least cosine of logits, and how far
    features are, of the largest.
    """

    weights: int
    cosine: float
    features: float


def check_buildable(bundle: Bundle) -> None:
    """Refuse a bundle that Edge-LLM cannot take for Orin. Raises `BundleError`."""
    manifest, facts = bundle.manifest, bundle.manifest.facts
    if manifest.precision.decoder != "int4" or manifest.precision.group_size != GROUP_SIZE:
        raise BundleError(
            f"{bundle.path} has a decoder in {manifest.precision.decoder}, groups of {manifest.precision.group_size}; "
            f"Edge-LLM on Orin takes int4 in groups of {GROUP_SIZE}",
            remedy=f"export with --target orin --precision int4 --group-size {GROUP_SIZE}",
        )
    if manifest.precision.cache is not None:
        raise BundleError(
            f"{bundle.path} keeps keys and values in {manifest.precision.cache}; Edge-LLM on Orin keeps float16, "
            "and its logits would be held to another model's",
            remedy="export without an option for the cache",
        )
    if manifest.precision.vision in VISION_EIGHT_BITS:
        raise BundleError(
            f"{bundle.path} has its vision encoder in {manifest.precision.vision}; Edge-LLM on Orin gets it in float16",
            remedy="export with --vision-precision float",
        )
    for dialect in (DIALECT, OUR_DIALECT):
        if dialect not in manifest.dialects:
            raise BundleError(
                f"{bundle.path} has graphs for {', '.join(manifest.dialects)}, not for {dialect}",
                remedy="export the bundle again with --target orin",
            )
    sides = {
        "hidden_size": facts.hidden_size,
        "intermediate_size": facts.intermediate_size,
        "the keys' width": facts.num_kv_heads * facts.head_dim,
    }
    for name, side in sides.items():
        if side % _STEP:
            raise BundleError(
                f"{name} is {side}, which is no multiple of {_STEP}: Edge-LLM has no int4 product for it",
                remedy="use another backend for this model: phiedge build --backend tensorrt, on the device",
            )


def describe(
    bundle: Bundle, files: Mapping[str, FileEntry], *, exporter: Exporter, checks: Checks, phiedge_version: str
) -> EngineRecord:
    """The record: what it was made from and by, and what it was held to."""
    manifest = bundle.manifest
    sources = [manifest.dialects[DIALECT].vision, manifest.dialects[OUR_DIALECT].decoder]
    named = {name: entry.sha256 for graph in sources for name, entry in manifest.graph_files(graph).items()}
    tables = (manifest.embed_tokens.file, manifest.positions.file, manifest.tokenizer, manifest.chat_template)
    return EngineRecord(
        backend=BACKEND,
        phiedge_version=phiedge_version,
        tools=dict(exporter.versions),
        machine={},
        options={
            "capacity": str(manifest.max_context),
            "cosine of logits": f"{checks.cosine:.8f}",
            "distance of features": f"{checks.features:.2g}",
            "run on a device": "never",
            "weights compared": str(checks.weights),
        },
        source=named | {name: manifest.files[name].sha256 for name in tables},
        vision=f"{VISUAL}/{GRAPH}",
        decoder=f"{LANGUAGE}/{GRAPH}",
        goldens=None,
        files=files,
    )


def commands(bundle: Bundle) -> tuple[str, ...]:
    """What to run in the engine's directory, on the device."""
    return device_commands(bundle.manifest.facts, pictures=PICTURES, context=bundle.manifest.max_context)
