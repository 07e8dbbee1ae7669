"""Decode steps at a fixed context: the loop of an answer, with the clock around every token.

A token costs what it costs in a session: its embedding row, the engine, the choice of the next one, its text. A few
steps lead up to the context, then the cache goes back by as many, which is not timed, and nor is the step after it.
What the cache holds there does not matter, as the arithmetic does not depend on values. The tokens are drawn
beforehand, so that no run depends on what a model says.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phiedge.devices.host import Disturbance, disturbance
from phiedge.runtime.bench.spread import repeat
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.sampling import Sampler
from phiedge.runtime.transcript import Transcript

# Steps from where the cache goes back to until the context: few, and never so many that they are another context.
_APPROACH, _APPROACH_SHARE = 32, 8
_WARM_UP = 2
_WARM_UP_NS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSamples:
    """Nanoseconds of every token: whole, and outside the run of the engine's library."""

    token_ns: tuple[int, ...]
    host_ns: tuple[int, ...]
    disturbance: Disturbance

    def __add__(self, later: "DecodeSamples") -> "DecodeSamples":
        """Both, one after the other."""
        return DecodeSamples(
            token_ns=self.token_ns + later.token_ns,
            host_ns=self.host_ns + later.host_ns,
            disturbance=self.disturbance + later.disturbance,
        )


def measure_decode(
    model: LoadedModel,
    *,
    context: int,
    at_least: int,
    at_most: int,
    until_ns: int,
    clock_ns: Callable[[], int],
    warms_up: bool,
) -> DecodeSamples:
    """Up to `at_most` tokens over `context` positions each, itself included, until the clock shows `until_ns`.

    Nearly so: of the steps that lead up to the context, the first ones see a few positions less.
    """
    approach = min(context, _APPROACH, max(2, context // _APPROACH_SHARE))
    left = 0
    tokens = drawn_tokens(model.facts.vocab_size, count=1024)
    sampler = Sampler(model.facts.vocab_size)
    # Far more room than steps: an answer's end costs something of its own.
    transcript = Transcript(model.tokenizer, model.facts, capacity=2**31, starts_thinking=False)

    def step() -> tuple[int, int]:
        nonlocal left
        token = tokens[transcript.count % len(tokens)]
        if left == 0:
            left = _go_back(model, context, approach, token)
        left -= 1
        begun_ns = clock_ns()
        transcript.add(token)
        sampler.choose(model.step(token))
        whole_ns = clock_ns() - begun_ns
        return whole_ns, max(0, whole_ns - model.step_run_ns)

    if warms_up:
        repeat(step, at_least=_WARM_UP, at_most=at_most, until_ns=clock_ns() + _WARM_UP_NS, clock_ns=clock_ns)
    before = disturbance()
    samples = repeat(step, at_least=at_least, at_most=at_most, until_ns=until_ns, clock_ns=clock_ns)
    return DecodeSamples(
        token_ns=tuple(whole_ns for whole_ns, _ in samples),
        host_ns=tuple(host_ns for _, host_ns in samples),
        disturbance=disturbance().since(before),
    )


def _go_back(model: LoadedModel, context: int, approach: int, token: int) -> int:
    """Stand `approach` steps before the context and do the first of them; returns how many are left."""
    model.seek(context - approach)
    if approach == 1:
        return 1
    model.step(token)  # an engine may go back only with its next run
    return approach - 1


def drawn_tokens(vocab_size: int, *, count: int) -> tuple[int, ...]:
    """`count` tokens from the whole vocabulary, the same ones every time."""
    return tuple(np.random.default_rng(0).integers(0, vocab_size, count).tolist())
