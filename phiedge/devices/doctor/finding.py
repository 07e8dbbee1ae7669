"""What a doctor says: what was found, why it hurts, and the command that mends it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

# Whether it costs time as things stand, or makes it likely that a later answer comes late.
When: TypeAlias = Literal["now", "risk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that will hurt latency. `fix` is a command, or what to do where no command does it."""

    name: str
    when: When
    what: str
    why: str
    fix: str

    def __post_init__(self) -> None:
        assert all((self.name, self.what, self.why, self.fix))


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings, and the names of the checks that could not be made because the system does not tell."""

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
