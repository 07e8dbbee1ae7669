"""How one request comes to its next token: by the model's scores, its form, and the keeper of its budget."""

from collections.abc import Iterator

from phiedge.runtime.deadline import Free
from phiedge.runtime.forms.following import Following
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.prompt import Prompt
from phiedge.runtime.request import Request
from phiedge.runtime.result import FinishReason
from phiedge.runtime.sampling import Logits, Sampler
from phiedge.runtime.transcript import Transcript


class Choosing:
    """The choices of one request. What is thought is free; the answer keeps to the request's form, if it has one."""

    def __init__(
        self,
        model: LoadedModel,
        request: Request,
        prompt: Prompt,
        *,
        sampler: Sampler,
        keeper: Free,
        transcript: Transcript,
    ) -> None:
        self._model, self._sampler, self._keeper, self._transcript = model, sampler, keeper, transcript
        self.forced_tokens = 0
        """How many tokens were written that nothing was chosen for."""
        self._end_think = model.facts.end_think_token_id
        self._following: Following | None = None
        if request.form is not None:
            marks = (model.facts.think_token_id, model.facts.nothink_token_id)
            grammar = model.grammars.compile(request.form)
            self._following = Following(grammar, model.grammars, sampler, marks=() if prompt.mode_is_set else marks)

    def next(self, logits: Logits) -> int:
        """The next token."""
        transcript, context = self._transcript, self._model.length
        if self._following is None or transcript.thinking:
            token = self._thought(self._sampler.choose(logits))
        else:
            keeper = self._keeper
            token = self._following.choose(
                logits, left=transcript.left, has_time=lambda steps: keeper.has_time(steps, context)
            )
        return self._keeper.settle(
            token, thinking=transcript.thinking, thought=transcript.tokens("thinking"), context=context
        )

    def forced(self) -> list[int]:
        """The tokens that follow the last one without a choice, where computing them all at once is cheaper."""
        following, transcript = self._following, self._transcript
        if following is None or not following.begun or transcript.thinking:
            return []
        tokens = following.forced(transcript.left)
        if not tokens or not self._keeper.prefers_chunk(1 + len(tokens), self._model.length):
            return []
        following.take_forced(tokens)
        self.forced_tokens += len(tokens)
        return tokens

    def ends(self, token: int) -> bool:
        """Whether the answer ends with `token`, the last one that was written."""
        return self._transcript.stops(token) or (self._following is not None and self._following.ended)

    def tail(self, finish: FinishReason) -> Iterator[int]:
        """The tokens that end an answer which was cut; a thinking that is open there is closed."""
        if self._following is None or finish not in ("deadline", "length"):
            return
        if self._transcript.thinking:
            yield self._end_think
        tokens, made_up = self._following.tail(self._transcript.left)
        self.forced_tokens += len(tokens) - made_up
        yield from tokens

    def finish(self, finish: FinishReason) -> FinishReason:
        """How it ended: an answer that was made to end early was cut, though it has its form."""
        if finish == "stop" and self._following is not None and self._following.closed is not None:
            return "deadline" if self._following.closed == "time" else "length"
        return finish

    @property
    def made_up(self) -> str:
        """What of the answer nobody chose, as time was over."""
        return "" if self._following is None else self._following.made_up.decode(errors="replace")

    def value(self, answer: str) -> object:
        """What the answer stands for, None without a form, if it is not whole, or if nothing of it was chosen."""
        following = self._following
        if following is None or not following.complete or not following.said:
            return None
        return following.grammar.form.value(answer)

    def _thought(self, token: int) -> int:
        """A thought, which an answer must follow where one has a form."""
        following, transcript = self._following, self._transcript
        if following is None:
            return token
        out_of_room = transcript.left <= following.grammar.least_tokens + 1
        return self._end_think if out_of_room or transcript.stops(token) else token
