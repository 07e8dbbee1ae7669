"""`phiedge build --backend tensorrt-llm`: a checkpoint, its engine or its load where the library is, or the command."""

from pathlib import Path
from typing import TYPE_CHECKING

from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.errors import UsageError

if TYPE_CHECKING:
    from phiedge.pipeline.building_tensorrt_llm import LLMBuild


def build_for_tensorrt_llm(bundle: Path, *, sm: str | None, threads: int | None, as_json: bool) -> None:
    """The verb's work for this backend."""
    for option, value in (("--sm", sm), ("--threads", threads)):
        if value is not None:
            raise UsageError(
                f"{option} is not for --backend tensorrt-llm, which takes the bundle's target",
                remedy=f"leave {option} out",
            )
    from phiedge.pipeline.building_tensorrt_llm import build_tensorrt_llm

    made = build_tensorrt_llm(bundle, progress=terminal_progress())
    if as_json:
        emit_json({"bundle": str(bundle), "backend": "tensorrt-llm", **_summary(made)})
        return
    show_table(None, ("", ""), [(key, str(value)) for key, value in _summary(made).items() if value is not None])
    if made.installed is None:
        print("note: TensorRT-LLM is not installed here; the command runs where it is, on the device's kind of GPU")


def _summary(made: "LLMBuild") -> dict[str, str | None]:
    return {
        "format": made.kind,
        "checkpoint": str(made.checkpoint),
        "installed": made.installed,
        "engine": None if made.engine is None else str(made.engine),
        "loaded_by": made.loaded_by,
        "command": made.elsewhere.command if made.elsewhere else None,
        "needs": made.elsewhere.needs if made.elsewhere else None,
    }
