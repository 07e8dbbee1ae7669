"""One benchmark of a bundle.

It is opened once and measured through the session's own parts. The rates of the machine are measured before and after,
so that a neighbour who comes or goes is seen; of each the better counts, as a limit is what the machine can do.
"""

import platform
import time
from collections.abc import Callable
from importlib import metadata

from phiedge.bundle import Bundle
from phiedge.devices.host import host, process_memory, reset_peak_memory
from phiedge.engines.machine_rates import MachineRates, measure_rates
from phiedge.engines.threads import default_threads
from phiedge.progress import Progress, silent
from phiedge.runtime.bench.cases import Cases
from phiedge.runtime.bench.limits import limits_of, reads_of
from phiedge.runtime.bench.notes import notes_on_cases, notes_on_conditions
from phiedge.runtime.bench.plan import BenchPlan
from phiedge.runtime.bench.report import BenchReport, Memory, Setting
from phiedge.runtime.bench.rows import decode_rows, first_token_row, prefill_rows, vision_rows
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import DEFAULT_CHUNK_TOKENS, Session

_DIALECT = "ort"
_ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13")
_PACKAGES = ("phiedge", "numpy", *_ENGINES, "pycuda")


def bench(
    bundle: Bundle,
    plan: BenchPlan,
    *,
    max_context: int | None = None,
    threads: int | None = None,
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    backend: str | None = None,
    progress: Progress = silent,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> BenchReport:
    """Measure `bundle` as `plan` says. Options and errors as of `Session.open`."""
    machine = host()
    threads = default_threads() if threads is None else threads
    begun_ns = clock_ns()
    with progress.task("open", 1, "bundle") as advance:
        model = LoadedModel(
            bundle, max_context=max_context, threads=threads, chunk_tokens=chunk_tokens, backend=backend
        )
        advance(1)
    load_ns = clock_ns() - begun_ns
    opening_peak_bytes = process_memory().peak_bytes

    with Session(bundle, model, load_ns=load_ns) as session:
        before = _rates(model.backend, threads, progress)
        peak_known = reset_peak_memory()  # the arrays that rates are measured with are not the model's
        reads = reads_of(bundle, dialect=_DIALECT, position_bytes=model.position_bytes)
        works = limits_of(bundle, reads=reads, chunk_tokens=chunk_tokens, rates=None)
        samples = Cases(model, session, plan, works, clock_ns=clock_ns).measure(progress)
        memory = process_memory()
    after = _rates(model.backend, threads, progress)

    rates = None if before is None or after is None else before.best_with(after)
    limits = limits_of(bundle, reads=reads, chunk_tokens=chunk_tokens, rates=rates)
    setting = _setting(
        bundle,
        model,
        threads=threads,
        chunk_tokens=chunk_tokens,
        weights_bytes=reads.decoder_bytes,
        position_bytes=reads.position_bytes,
    )
    vision = vision_rows(samples.vision, limits)
    prefill = prefill_rows(samples.prefill_ns, limits)
    first_token = first_token_row(samples.first_token, limits)
    decode = decode_rows(samples.decode, limits)
    return BenchReport(
        setting=setting,
        host=machine,
        rates=rates,
        load_ms=load_ns / 1e6,
        vision=vision,
        prefill=prefill,
        first_token=first_token,
        decode=decode,
        memory=Memory(
            anonymous_bytes=memory.anonymous_bytes,
            file_bytes=memory.file_bytes,
            peak_bytes=max(opening_peak_bytes, memory.peak_bytes) if peak_known else None,
        ),
        notes=(
            *notes_on_conditions(machine, rates, setting),
            *notes_on_cases(vision, prefill, decode),
            *samples.left_out,
        ),
    )


def _rates(backend: str, threads: int, progress: Progress) -> MachineRates | None:
    with progress.task("machine", 1, "measurement") as advance:
        rates = measure_rates(backend=backend, threads=threads)
        advance(1)
    return rates


def _setting(
    bundle: Bundle, model: LoadedModel, *, threads: int, chunk_tokens: int, weights_bytes: int, position_bytes: int
) -> Setting:
    precision = bundle.manifest.precision
    return Setting(
        bundle=str(bundle.path),
        model=bundle.manifest.model.name,
        precision=precision.name,
        group_size=precision.group_size,
        backend=model.backend,
        threads=threads,
        max_context=model.context,
        chunk_tokens=chunk_tokens,
        weights_bytes=weights_bytes,
        position_bytes=position_bytes,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    installed = {found.metadata["Name"].lower(): found.version for found in metadata.distributions()}
    packages = {name: installed[name] for name in _PACKAGES if name in installed}
    return {"python": platform.python_version(), **packages}
