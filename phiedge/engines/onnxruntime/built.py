"""The engine that ONNX Runtime builds for a CPU: its own graphs, optimised, with weights packed for this processor.

Opened as they are in the bundle, the weights are packed anew into memory of the process each time. In a built engine
they lie packed in a file that is mapped: processes share it, and the system can drop its pages and read them again. The
packing depends on ONNX Runtime's version and on the processor's instruction sets.
"""

from collections.abc import Mapping
from pathlib import Path

from phiedge.bundle import Bundle, FileEntry, ModelFacts
from phiedge.devices.processor import this_processor
from phiedge.engines.engine_record import BuiltEngine, EngineRecord, check_engine, find_engine
from phiedge.engines.onnxruntime.graph_run import session_options
from phiedge.engines.onnxruntime.library import ORT_ERRORS, first_line, ort
from phiedge.engines.onnxruntime.memory_need import require_memory_to_open
from phiedge.errors import BundleError
from phiedge.progress import Progress, silent

BACKEND = "onnxruntime"
ENGINE_NAME = "onnxruntime-cpu"
VISION_GRAPH, DECODER_GRAPH = "vision.onnx", "decoder.onnx"

_SMALLEST_EXTERNAL_BYTES = "1024"
# ONNX Runtime keeps the weights beside their packed form. Packed, int4 groups of 32 take 1.2 times what they took in
# the bundle (a scale and a sum for each), and the vision graph's float16 becomes float32, as do 8-bit floats.
_DECODER_FACTOR, _VISION_FACTOR, _FLOAT8_FACTOR = 2.3, 4.1, 8.1
_SMALLEST_BITS, _ON_A_PAGE_BYTES = 4, 1 << 20


def tools() -> dict[str, str]:
    """The libraries that an engine depends on, as they are here."""
    return {"onnxruntime": ort.__version__}


def machine() -> dict[str, str]:
    """What of this machine an engine depends on."""
    processor = this_processor()
    return {"architecture": processor.architecture, "instruction sets": " ".join(processor.instruction_sets)}


def packs(facts: ModelFacts) -> bool:
    """Whether an engine of such a model keeps its weights packed; those of a small one are packed when it is opened.

    Packed integers hold parts that start on a cache line of memory. ONNX Runtime 1.31 puts them behind their weight in
    the file, and starts only weights of a MiB or more on a page: behind smaller ones they come out as other numbers.
    """
    smallest = min(facts.num_heads * facts.head_dim, facts.intermediate_size) * facts.hidden_size
    return smallest * _SMALLEST_BITS // 8 >= _ON_A_PAGE_BYTES


def engine_bytes(bundle: Bundle) -> int:
    """About what an engine of `bundle` takes on disk, rather more than less."""
    dialect = bundle.manifest.dialects["ort"]
    of_decoder = _FLOAT8_FACTOR if bundle.manifest.precision.decoder == "float8" else _DECODER_FACTOR
    parts = ((dialect.vision, _VISION_FACTOR), (dialect.decoder, of_decoder))
    files = bundle.manifest.graph_files
    return int(sum(factor * entry.bytes for graph, factor in parts for entry in files(graph).values()))


def save_graphs(bundle: Bundle, directory: Path, *, threads: int, progress: Progress = silent) -> None:
    """Write both graphs as ONNX Runtime has optimised them, and `packs` them. Raises `BundleError`, `DeviceError`."""
    dialect = bundle.manifest.dialects["ort"]
    require_memory_to_open(bundle, dialect, None, capacity=1)
    graphs = ((dialect.vision, VISION_GRAPH), (dialect.decoder, DECODER_GRAPH))
    with progress.task("pack weights", len(graphs), "graphs") as advance:
        for source, name in graphs:
            _save(bundle.file(source), directory / name, threads, packed=packs(bundle.manifest.facts))
            advance(1)


def describe(
    bundle: Bundle, files: Mapping[str, FileEntry], *, goldens: str | None, phiedge_version: str
) -> EngineRecord:
    """The record of an engine that was saved here from `bundle` by this version of phiedge."""
    dialect = bundle.manifest.dialects["ort"]
    made_from = bundle.manifest.graph_files(dialect.vision) | bundle.manifest.graph_files(dialect.decoder)
    return EngineRecord(
        backend=BACKEND,
        phiedge_version=phiedge_version,
        tools=tools(),
        machine=machine(),
        options={"weights": "packed" if packs(bundle.manifest.facts) else "packed when opened"},
        source={name: entry.sha256 for name, entry in made_from.items()},
        vision=VISION_GRAPH,
        decoder=DECODER_GRAPH,
        goldens=goldens,
        files=files,
    )


def usable_engine(bundle: Bundle) -> BuiltEngine | None:
    """The engine built for a CPU, or None if none was. Raises `BundleError` for one that is not of here and now."""
    engine = find_engine(bundle, ENGINE_NAME)
    if engine is not None:
        check_engine(engine, bundle, tools=tools(), machine=machine())
    return engine


def _save(source: Path, path: Path, threads: int, *, packed: bool) -> None:
    options = session_options(threads)
    options.optimized_model_filepath = str(path)
    for key, value in (
        ("save_external_prepacked_constant_initializers", "1" if packed else "0"),
        ("optimized_model_external_initializers_file_name", f"{path.name}.data"),
        ("optimized_model_external_initializers_min_size_in_bytes", _SMALLEST_EXTERNAL_BYTES),
    ):
        options.add_session_config_entry(f"session.{key}", value)
    try:
        ort.InferenceSession(str(source), sess_options=options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot save {source.name} as an engine: {first_line(error)}",
            remedy="check the bundle: phiedge verify; and that the disk has room",
        ) from error
