"""How requests fare lately beside what the profile says: what admission goes by, besides the profile.

Three things are kept apart. The pace is by how much requests take longer altogether, because of a neighbour or of a
clock that went down: the median of the last few, which one disturbed request does not move. The spread is how far
single requests lie above the pace, in the unit of what their profile allows: so much that all but one of the last two
hundred would have been promised rightly. Promises go by these two, and neither makes anything faster than its profile.

What is usual now is the third: a mean of the last requests that forgets soon, and that goes below the profile as well,
as a machine whose neighbours were busy while it was measured is faster when they are not. Forecasts go by it.
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass, replace

from phiedge.runtime.latency_model import Estimate, LatencyModel

PACE_REQUESTS, SPREAD_REQUESTS = 9, 200
KNOWN_REQUESTS, LEAST_JOINT = 100, 0.5
"""So many requests are believed before their profile; but never that less than so much of its excess is enough."""
PATIENCE = 8
"""So many refusals one after the other, and it is found out whether the machine is still as slow."""

NEWEST_SHARE, MOST_STEP = 0.3, 0.4
"""So much of the newest request is in what is usual now, as a share and at most as a logarithm.

On a shared machine, what disturbs comes and goes within some ten requests.
"""

_NOTICED = 1.05  # less is what a good model is off by
_MOST_RATIO = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One request: milliseconds that it took, and what the profile says that all of it takes."""

    spent_ms: float
    expected: Estimate

    @property
    def ratio(self) -> float:
        return max(1 / _MOST_RATIO, min(_MOST_RATIO, self.spent_ms / self.expected.usual_ms))

    def above(self, pace: float) -> float:
        """How far it lies above the pace, in excesses of its profile."""
        if self.expected.excess_ms <= 0:
            return 0.0
        return (self.spent_ms / pace - self.expected.usual_ms) / self.expected.excess_ms


class Drift:
    """What was seen of requests that were admitted; one that is refused teaches nothing.

    So where everything is refused because of what was seen, some of it is forgotten, and a machine that has become
    quiet is found out. Two pauses would otherwise be held against the next two hundred requests that are admitted, of
    which few are as long as such a pause is believed to come again.
    """

    def __init__(self) -> None:
        self._lately: deque[_Seen] = deque(maxlen=PACE_REQUESTS)
        self._above: deque[float] = deque(maxlen=SPREAD_REQUESTS)
        self._refusals = 0
        self._forgotten = 1.0
        self._lately_log = 0.0

    @property
    def lately(self) -> float:
        """Times of the profile's usual that the last requests took, the newest more than those before it."""
        return math.exp(self._lately_log)

    @property
    def pace(self) -> float:
        """Times of the profile that requests take; never below 1."""
        # Before there are enough, the profile is believed.
        ratios = [seen.ratio for seen in self._lately] + [1.0] * (PACE_REQUESTS - len(self._lately))
        slow = max(1.0, statistics.median(ratios))
        return 1 + (slow - 1) * self._forgotten

    @property
    def spread(self) -> float:
        """Excesses of the profile that all but one of the last requests lay within; 0 before there are two."""
        pace, newest = self.pace, list(self._lately)[-(PACE_REQUESTS // 2) :]
        above = sorted([*self._above, *(self._forgotten * seen.above(pace) for seen in newest)])
        return max(0.0, above[-2]) if len(above) > 1 else 0.0

    def _joint(self, model: LatencyModel) -> float:
        """Few requests can only tell that the profile is too bold; many also that it is too careful."""
        known = len(self._above) >= KNOWN_REQUESTS
        return max(LEAST_JOINT if known else model.joint, self.spread)

    def observe(self, spent_ms: float, expected: Estimate) -> None:
        """A request took so long, of which the profile expected that."""
        if expected.usual_ms <= 0 or spent_ms <= 0:
            return
        self._refusals, self._forgotten = 0, 1.0
        seen = _Seen(spent_ms=spent_ms, expected=expected)
        self._lately.append(seen)
        moved = math.log(seen.ratio) - self._lately_log
        self._lately_log += NEWEST_SHARE * max(-MOST_STEP, min(MOST_STEP, moved))
        # With those before and after it known, a slow request and a slow machine can be told from each other.
        if len(self._lately) == PACE_REQUESTS:
            self._above.append(self._lately[PACE_REQUESTS // 2].above(self.pace))

    def refused(self, *, also_by_profile: bool) -> None:
        """A request was refused; where the profile alone refuses it, too, what was seen is not to blame."""
        if also_by_profile:
            return
        self._refusals += 1
        if self._refusals >= PATIENCE:
            self._refusals, self._forgotten = 0, self._forgotten / 2
            self._above = deque((above / 2 for above in self._above), maxlen=SPREAD_REQUESTS)

    def applied_to(self, model: LatencyModel) -> tuple[LatencyModel, float]:
        """The model as the machine is now, and by what factor it was slowed."""
        pace = self.pace
        wide = replace(model, joint=self._joint(model))
        return (wide, 1.0) if pace < _NOTICED else (wide.slowed(pace), pace)
