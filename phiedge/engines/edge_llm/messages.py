"""What the exporter says while it works, and what of it means that a model was lost on the way.

It ends with 0 and "Export complete" also where it dropped tensors: that is said in one line among others, at a level
below a warning, or not at all. So the lines are read, and what says that something was left out is an error here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from phiedge.engines.edge_llm.versions import PACKAGE, VERSION
from phiedge.errors import ToolOutputError

_LOADED = re.compile(r"Loaded (\d+) tensors, skipped (\d+) from")
_PART = re.compile(r"^(?:.*: +)?(\w+) +: (yes|no)$")
_LEFT_OUT = re.compile(r"WARNING +tensorrt_edgellm\.checkpoint\S*: (.*)$")
COMPLETE = "Export complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSaid:
    """How many tensors it loaded and skipped (None where it said neither), what it left out, and whether it ended.

    `parts` are the components that it saw in the checkpoint ("thinker" is the decoder) and whether it exported them.
    """

    loaded: int | None
    skipped: int | None
    left_out: tuple[str, ...]
    parts: dict[str, bool]
    complete: bool

    @staticmethod
    def of(lines: Iterable[str]) -> "ExporterSaid":
        """Read the exporter's standard output and error."""
        loaded = skipped = None
        left_out, parts, complete = [], {}, False
        for line in map(str.rstrip, lines):
            if found := _LOADED.search(line):
                loaded, skipped = int(found[1]), int(found[2])
            elif found := _LEFT_OUT.search(line):
                left_out.append(found[1])
            elif found := _PART.match(line):
                parts[found[1]] = found[2] == "yes"
            complete = complete or line.startswith(COMPLETE)
        return ExporterSaid(loaded=loaded, skipped=skipped, left_out=tuple(left_out), parts=parts, complete=complete)

    def check(self, *, tensors: int) -> None:
        """Refuse an export of a checkpoint of `tensors` tensors that did not use each of them.

        Raises `ToolOutputError`.
        """
        told = f"{PACKAGE} {VERSION}"
        if self.left_out:
            raise ToolOutputError(
                f"{told} reported success and left weights out: {self.left_out[0]}"
                + (f" (and {len(self.left_out) - 1} more)" if len(self.left_out) > 1 else ""),
                remedy="give it a checkpoint whose projections are separate, as phiedge writes it",
            )
        if self.loaded is None or self.skipped is None:
            raise ToolOutputError(
                f"{told} did not say what it loaded", remedy="install the release that phiedge knows; report this"
            )
        if self.skipped or self.loaded != tensors:
            raise ToolOutputError(
                f"{told} reported success, but of {tensors} tensors it loaded {self.loaded} and skipped {self.skipped}",
                remedy="its graph has weights that are not the model's: do not use it, and report this",
            )
        if not self.parts.get("thinker", False):
            raise ToolOutputError(
                f"{told} saw no decoder in the checkpoint", remedy="report this with the checkpoint's config.json"
            )
        if not self.complete:
            raise ToolOutputError(
                f"{told} ended without saying that it was done", remedy="run it again; report this if it stays"
            )
