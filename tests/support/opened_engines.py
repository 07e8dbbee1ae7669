"""Engines that a stand-in of TensorRT runs, written into a bundle and opened over recorded memory."""

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.interface import Engines
from phiedge.engines.tensorrt.built import describe, engine_name
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.library import Library
from phiedge.engines.tensorrt.opening import open_on
from recorded_device import GPU, RecordedMemory
from tensorrt_runtime import write_engine

CONTEXT, CHUNK = 1024, 64


def write_engines(bundle: Bundle, library: Library, *, chunk: int = CHUNK) -> BuiltEngine:
    """Write the two engines of `library` for the stand-in's GPU into a bundle."""
    dialect, facts = bundle.manifest.dialects[library.capabilities.dialect], bundle.manifest.facts
    patches = (1, facts.max_num_patches, facts.max_num_patches)
    family = (GPU.sm,)
    with EngineWriter(bundle, engine_name(library.backend, family)) as writer:
        write_engine(writer.path / "vision.engine", bundle.file(dialect.vision), profiles=[patches])
        profiles = [(1, 1, 1), (chunk, chunk, chunk)]
        write_engine(writer.path / "decoder.engine", bundle.file(dialect.decoder), profiles=profiles)
        return writer.commit(
            lambda files: describe(
                bundle,
                files,
                library=library,
                family=family,
                chunk_tokens=chunk,
                goldens=None,
                phiedge_version="0.1.0",
            )
        )


class Opened:
    """Both engines of a bundle; `memory` has the record, and further options are its own."""

    def __init__(
        self,
        bundle: Bundle,
        library: Library,
        *,
        capacity: int | None = None,
        engine: BuiltEngine | None = None,
        gpu: Gpu = GPU,
        **memory: object,
    ) -> None:
        self.bundle, self.library, self._options = bundle, library, memory
        self.engines: Engines = open_on(
            bundle,
            library,
            gpu,
            capacity=bundle.manifest.max_context if capacity is None else capacity,
            engine=engine,
            open_memory=self.open_memory,
        )

    def open_memory(self, gpu: Gpu) -> RecordedMemory:
        self.memory = RecordedMemory(gpu, **self._options)
        return self.memory
