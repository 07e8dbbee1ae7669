"""What the sessions of a campaign told of themselves: which latency profile they promised by, and what became of the
wishes for a quieter process. Each opening adds to it; the evidence has it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from phiedge.bundle import hash_file
from phiedge.bundle.record import encode
from phiedge.runtime.profile.store import path_of
from phiedge.runtime.realtime import Report
from phiedge.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Openings:
    """`profiles` are the different ones that were used, one where the machine stayed as it was, and none where no
    workload has a deadline; `realtime` is what became of the wishes, opening by opening."""

    profiles: list[dict[str, Any]] = field(default_factory=list)
    realtime: list[tuple[Report, ...]] = field(default_factory=list)

    def opened(self, session: Session) -> None:
        """Note what is known from the start."""
        self.realtime.append(session.realtime)

    def used(self, session: Session) -> None:
        """Note what is known when a session has answered: it looks for its profile when a budget asks for one."""
        if session.profile is None:
            return
        path = path_of(session.bundle, session.profile.identity)
        profile = {
            "file": str(path.relative_to(session.bundle.path)),
            "sha256": hash_file(path),
            "identity": encode(session.profile.identity),
        }
        if profile not in self.profiles:
            self.profiles.append(profile)

    def wishes(self) -> list[list[dict[str, str]]]:
        """What became of the wishes at each opening, ready for JSON; empty where nothing was wished for."""
        return [[asdict(report) for report in reports] for reports in self.realtime if reports]
