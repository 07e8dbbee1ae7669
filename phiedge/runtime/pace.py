"""How long the next tokens will take, as the runtime believes while it runs.

With a latency model, that is the model's high time, stretched by how much slower than usual the last tokens were: a
neighbour on the machine, a clock that went down. It is never shortened. Without a model, it is what the tokens of this
session took.
"""

import math

from phiedge.runtime.latency_model import RUN_TOKENS, LatencyModel

_SHARE = 1 / 8  # of the newest token in what is believed
_MARGIN = 2.0  # mean deviations of a sum: about the 95 % quantile where tokens are spread evenly
_MOST = 4.0  # one token that was disturbed for a moment says little about the next


class ProfiledPace:
    """Nanoseconds of tokens to come, by a latency model."""

    def __init__(self, model: LatencyModel) -> None:
        step = model.step
        self._fixed_ns, self._each_ns = (1e6 * value for value in step.coefficients)
        self._excess, self._scale_ns = step.excess, 1e6 * step.scale_ms
        self._run_excess = self._run_excess_now = model.run_excess
        self._abort_ns = 1e6 * model.abort_ms
        self._stretch = 1.0

    def begin(self, slowdown: float, joint: float) -> None:
        """A request begins where requests lately took so many times of the profile, and of its excess."""
        self._stretch = max(self._stretch, slowdown)
        self._run_excess_now = self._run_excess * max(1.0, joint)

    def step_ns(self, context: int) -> float:
        """How long before the deadline one token over `context` positions, itself included, is still begun.

        That is what it seldom exceeds; or what it takes usually, and what the engine takes to stop, if that is less:
        the watchdog ends a token that takes longer, and there is nothing to lose but this token.
        """
        usual_ns = (self._fixed_ns + self._each_ns * context) * self._stretch
        return usual_ns + min(self._excess * (usual_ns + self._scale_ns), self._abort_ns)

    def steps_ns(self, count: int, context: int) -> float:
        """What `count` tokens together seldom exceed, the first over `context` positions; as `LatencyModel.steps`."""
        each_ns = (self._fixed_ns + self._each_ns * (context + 0.5 * (count - 1))) * self._stretch
        run_ns = self._run_excess_now * (count if count > RUN_TOKENS else RUN_TOKENS) * each_ns
        return count * each_ns + min(run_ns, count * self._excess * (each_ns + self._scale_ns))

    def usual_ns(self, count: int, context: int) -> float:
        """What `count` tokens take usually, the first over `context` positions."""
        return count * (self._fixed_ns + self._each_ns * (context + 0.5 * (count - 1))) * self._stretch

    def observe(self, spent_ns: int, context: int) -> None:
        """One token took so long."""
        ratio = spent_ns / (self._fixed_ns + self._each_ns * context)
        seen = self._stretch + (min(ratio, _MOST) - self._stretch) * _SHARE
        self._stretch = seen if seen > 1.0 else 1.0


class ObservedPace:
    """Nanoseconds of tokens to come, by those that came; nothing is known before the first."""

    def __init__(self) -> None:
        self._usual_ns = self._spread_ns = 0.0
        self._slow_ns = 0.0

    def begin(self, slowdown: float, joint: float) -> None:
        """As of `ProfiledPace`; nothing is known of a profile here."""

    def step_ns(self, context: int) -> float:
        """As slow as lately."""
        return self._slow_ns

    def steps_ns(self, count: int, context: int) -> float:
        """As of `ProfiledPace`: one as slow as lately, and the others with a margin that grows as their sum spreads."""
        others = count - 1
        return self._slow_ns + others * self._usual_ns + _MARGIN * math.sqrt(others) * self._spread_ns

    def usual_ns(self, count: int, context: int) -> float:
        """As of `ProfiledPace`."""
        return count * self._usual_ns

    def observe(self, spent_ns: int, context: int) -> None:
        """One token took so long. A slow one is remembered for a while, a fast one soon."""
        known = self._usual_ns > 0
        self._spread_ns += (abs(spent_ns - self._usual_ns) - self._spread_ns) * _SHARE if known else 0.0
        self._usual_ns += (spent_ns - self._usual_ns) * (_SHARE if known else 1.0)
        self._slow_ns = max(spent_ns, self._slow_ns - (self._slow_ns - self._usual_ns) * _SHARE)
