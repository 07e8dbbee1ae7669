"""How far a build is, from what TensorRT's builder says of its phases, which lie in one another.

Each phase has so many steps; a step that has phases of its own is as far as they are. Steps take very different times,
so the share moves in leaps; it never goes back.
"""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class _Phase:
    name: str
    steps: int
    done: int = 0


@dataclass(slots=True)
class BuildProgress:
    """The open phases, outermost first."""

    _open: list[_Phase] = field(default_factory=list)
    _most: float = 0.0

    def start(self, name: str, steps: int) -> None:
        """A phase begins within the innermost one that is open."""
        self._open.append(_Phase(name=name, steps=max(1, steps)))

    def step(self, name: str) -> None:
        """A step of an open phase is done."""
        for phase in self._open:
            if phase.name == name:
                phase.done += 1

    def finish(self, name: str) -> None:
        """A phase is done, and what it had open."""
        names = [phase.name for phase in self._open]
        if name in names:
            del self._open[names.index(name) :]

    @property
    def share(self) -> float:
        """How much of the whole is done, from 0 to 1."""
        share, width = 0.0, 1.0
        for phase in self._open:
            share += width * min(phase.done / phase.steps, 1.0)
            width /= phase.steps
        self._most = max(self._most, min(share, 1.0))
        return self._most
