"""Trying an engine before it gets its name: it must answer as the bundle did where it was exported.

Where an export could not try the model, as it was too large there, what the engine answers is written down instead,
for `phiedge verify`.
"""

from collections.abc import Sequence
from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine
from phiedge.errors import BundleError
from phiedge.pipeline.golden_questions import golden_questions
from phiedge.progress import Progress
from phiedge.runtime import goldens
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import DEFAULT_CHUNK_TOKENS, Session


def try_engine(bundle: Bundle, engine: BuiltEngine, *, threads: int | None, progress: Progress) -> str | None:
    """Hold what `engine`, which has no name yet, answers against the bundle's goldens.

    Without any they are written into the engine's directory, and the name of their file is returned. Raises
    `BundleError` where an answer differs, and what opening the engine raises.
    """
    model = LoadedModel(
        bundle,
        max_context=min(bundle.manifest.max_context, goldens.GOLDENS_CONTEXT),
        threads=threads,
        chunk_tokens=DEFAULT_CHUNK_TOKENS,
        backend=engine.record.backend,  # whatever else there is, and would be used, for this bundle on this machine
        engine=engine,
    )
    with Session(bundle, model, load_ns=0) as session:
        if bundle.manifest.goldens is not None:
            rows = goldens.compare(session, goldens.load(bundle), progress)
            _require_same(bundle, engine, rows)
            return None
        found = goldens.record(session, golden_questions(), progress=progress)
        return _save(found, engine.path)


def _require_same(bundle: Bundle, engine: BuiltEngine, rows: Sequence[goldens.GoldenCheck]) -> None:
    for row in rows:
        if not row.ok:
            tools = ", ".join(f"{name} {version}" for name, version in engine.record.tools.items())
            raise BundleError(
                f"the engine does not answer the golden {row.name!r} as {bundle.path} does: the logits are "
                f"{row.max_abs_diff} apart, {row.tolerance:g} are allowed",
                remedy=f"report this, with {tools}; another release may build one that does",
            )


def _save(found: list[goldens.Golden], directory: Path) -> str | None:
    if not found:
        return None
    goldens.save(found, directory / goldens.GOLDENS_FILE)
    return goldens.GOLDENS_FILE
