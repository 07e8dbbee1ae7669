"""What is built for a bundle, planned and refused before it starts.

Two engines for each family of GPUs: vision with one profile over the sizes that pictures have, and the decoder with two
profiles of one size each, one row and a chunk, which share its weights.
"""

from collections.abc import Sequence
from pathlib import Path

from phiedge.bundle import Bundle, Dialect, ModelFacts
from phiedge.devices import find
from phiedge.devices.memory_limits import require_memory
from phiedge.engines.tensorrt import built
from phiedge.engines.tensorrt.capabilities import CONSERVATIVE_DIALECT
from phiedge.engines.tensorrt.families import Family, check_precision, families
from phiedge.engines.tensorrt.library import LIBRARIES, Library, this_gpu
from phiedge.engines.tensorrt.ports import decoder_ports, vision_ports
from phiedge.engines.tensorrt.request import BuildRequest
from phiedge.errors import BundleError, DeviceError, UsageError

# One row has a kernel for as many positions as this, less the size of a head: found with heads of 32 to 256 for SM 89,
# and of 128 for SM 86 and 120, by building what just fits and what just does not.
_MOST_POSITIONS = 24_576

# Measured (docs/decisions/0801-how-are-tensorrt-engines-built.md): each of two profiles is built with a copy of the
# weights, a part of them is there once more when they become one, and the largest matrix lies there in float16.
_COPIES, _FLOAT16_BYTES, _LIBRARY_BYTES = 2.4, 2, 300_000_000
_ENGINE_EXTRA_BYTES = 32_000_000


def choose_families(bundle: Bundle, library: Library, sms: Sequence[int] | None) -> list[Family]:
    """The families that get an engine: of `sms`, or of the bundle's target, or of the GPU at hand.

    Raises `UsageError` for GPUs that `library` does not build for, `DeviceError` without the GPU that it needs.
    """
    if not library.capabilities.builds_ahead:
        here = this_gpu()
        if sms is not None and list(sms) != [here.sm]:
            raise UsageError(
                f"--backend {library.backend} builds for the GPU at hand, which is SM {here.sm}, not "
                f"{', '.join(map(str, sms))}",
                remedy="leave --sm out",
            )
        return [(here.sm,)]
    trt = library.trt.ComputeCapability.__members__
    known = sorted(int(name[2:]) for name in trt if name.startswith("SM") and name[2:].isdigit())
    title = f"{LIBRARIES[library.backend].title} {library.version}"
    return families(_target_sms(bundle) if sms is None else sms, known=known, library=title)


def check_buildable(bundle: Bundle, library: Library, family: Family) -> Dialect:
    """The dialect to build from. Raises `BundleError`, `UsageError` for what no engine can be made of."""
    name = library.capabilities.dialect
    dialect = bundle.manifest.dialects.get(name)
    if dialect is None:
        raise BundleError(
            f"{bundle.path} has graphs of the dialects {', '.join(sorted(bundle.manifest.dialects))}, "
            f"{library.backend} {library.version} needs {name}",
            remedy="export the bundle for a GPU, at int4 or fp16: "
            f"phiedge export --target {'orin' if name == CONSERVATIVE_DIALECT else 'rtx-4090'}",
        )
    check_precision(family, bundle.manifest.precision)
    most = _MOST_POSITIONS - bundle.manifest.facts.head_dim
    if name != CONSERVATIVE_DIALECT and dialect.max_context > most:
        raise UsageError(
            f"the bundle has a context of {dialect.max_context} positions; TensorRT's attention of one row, with heads "
            f"of {bundle.manifest.facts.head_dim}, goes up to {most}",
            remedy=f"export again with --max-context {most} or less",
        )
    return dialect


def engine_bytes(bundle: Bundle, dialect: Dialect) -> int:
    """About what the two engines take on disk, rather more than less: their weights and little else."""
    return _data_bytes(bundle, dialect.vision) + _data_bytes(bundle, dialect.decoder) + 2 * _ENGINE_EXTRA_BYTES


def memory_to_build(facts: ModelFacts, *, weights_bytes: int, maps_weights: bool) -> int:
    """What building an engine takes; a parser that does not map the weights of a graph has them in memory once more."""
    largest_bytes = _FLOAT16_BYTES * facts.hidden_size * max(facts.vocab_size, 2 * facts.intermediate_size)
    copies = _COPIES if maps_weights else _COPIES + 1
    return int(copies * weights_bytes) + largest_bytes + _LIBRARY_BYTES


def require_memory_to_build(bundle: Bundle, dialect: Dialect, *, maps_weights: bool = True) -> None:
    """Refuse what this machine cannot build. Raises `DeviceError` with both numbers."""
    weights_bytes = _most_weights_bytes(bundle, dialect)
    needed_bytes = memory_to_build(bundle.manifest.facts, weights_bytes=weights_bytes, maps_weights=maps_weights)
    require_memory(
        f"building engines of {bundle.path}",
        resident_bytes=needed_bytes,
        mapped_bytes=needed_bytes + weights_bytes,
        remedy="close what else runs, or build on a machine with more memory and copy the bundle",
    )


def require_gpu_to_build(bundle: Bundle, dialect: Dialect) -> None:
    """Refuse what the GPU at hand cannot try kernels for: weights that do not fit it. Raises `DeviceError`.

    The memory of a Jetson is the machine's, which `require_memory_to_build` looks at.
    """
    gpu, weights_bytes = this_gpu(), _most_weights_bytes(bundle, dialect)
    if not gpu.integrated and weights_bytes > gpu.memory_bytes:
        raise DeviceError(
            f"the weights of {bundle.path} take {weights_bytes / 1e9:.2f} GB of the GPU when its engines are built, "
            f"{gpu.name} has {gpu.memory_bytes / 1e9:.2f} GB",
            remedy="build on a GPU with more memory, or export with --precision int4",
        )


def requests(
    bundle: Bundle, library: Library, family: Family, directory: Path, *, threads: int | None
) -> tuple[BuildRequest, BuildRequest]:
    """What to build for `family` into `directory`: vision, then the decoder."""
    name = library.capabilities.dialect
    dialect, facts = bundle.manifest.dialects[name], bundle.manifest.facts
    capacity, chunk = dialect.max_context, chunk_tokens(dialect)
    sms = family if library.capabilities.builds_ahead else ()
    timing_cache = str(directory / built.TIMING_CACHE) if library.capabilities.timing_cache else None
    vision = BuildRequest(
        backend=library.backend,
        part="vision",
        dialect=name,
        graph=str(bundle.file(dialect.vision)),
        engine=str(directory / built.VISION),
        layers=str(directory / built.VISION_LAYERS),
        sms=sms,
        ports=vision_ports(facts),
        profiles=((1, facts.max_num_patches, facts.max_num_patches),),  # a request may want fewer than the model
        attentions=facts.vision_layers_used,
        capacity=None,
        timing_cache=timing_cache,
        threads=threads,
    )
    decoder = BuildRequest(
        backend=library.backend,
        part="decoder",
        dialect=name,
        graph=str(bundle.file(dialect.decoder)),
        engine=str(directory / built.DECODER),
        layers=str(directory / built.DECODER_LAYERS),
        sms=sms,
        ports=decoder_ports(facts, dialect=name, capacity=capacity),
        profiles=((1, 1, 1), (chunk, chunk, chunk)),
        attentions=facts.num_layers,
        capacity=capacity,
        timing_cache=timing_cache,
        threads=threads,
    )
    return vision, decoder


def chunk_tokens(dialect: Dialect) -> int:
    """Rows of a chunk: a whole one fits the cache."""
    return min(built.CHUNK_TOKENS, dialect.max_context)


def _target_sms(bundle: Bundle) -> tuple[int, ...]:
    target = str(bundle.manifest.target["name"])
    device = find(target)
    if device.kind == "jetson":
        raise UsageError(
            f"the bundle is for {target}, which TensorRT-RTX does not build for: its engines are built there",
            remedy=f"there: phiedge build {bundle.path} --backend tensorrt; for other GPUs: --sm 86, for example",
        )
    if device.sm_number is None:
        raise UsageError(
            f"the bundle is for {target}, which has no GPU to build for", remedy="name one: --sm 86,89,120, for example"
        )
    return (device.sm_number,)


def _most_weights_bytes(bundle: Bundle, dialect: Dialect) -> int:
    return max(_data_bytes(bundle, graph) for graph in (dialect.vision, dialect.decoder))


def _data_bytes(bundle: Bundle, graph: str) -> int:
    return sum(entry.bytes for entry in bundle.manifest.graph_files(graph).values())
