"""The written tokens of one request, sorted into thinking and answer as they come."""

from phiedge.bundle import ModelFacts
from phiedge.runtime.result import Channel, Event
from phiedge.runtime.tokens import Detokeniser, Tokenizer


class _Text:
    """Text that grows, without white space at its ends: white space waits until something follows it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.tokens = 0
        self._waiting = ""

    def add(self, text: str) -> str:
        """Take `text` and return what can be shown now."""
        shown = self._waiting + text if self.parts else text.lstrip()
        visible = shown.rstrip()
        if not visible:
            self._waiting = shown
            return ""
        self._waiting = shown[len(visible) :]
        self.parts.append(visible)
        return visible

    def __str__(self) -> str:
        return "".join(self.parts)


class Transcript:
    """Takes one token after the other; knows the thinking marks, the stop tokens and where the text stands."""

    def __init__(self, tokenizer: Tokenizer, facts: ModelFacts, *, capacity: int, starts_thinking: bool) -> None:
        self._facts = facts
        # A begin-of-text token in an answer means that the model has run past its end.
        self._stop_ids = frozenset((*facts.eos_token_ids, facts.bos_token_id))
        self._detokeniser = Detokeniser(tokenizer)
        self._ids: list[int] = []
        self._capacity = capacity
        self._channel: Channel = "thinking" if starts_thinking else "answer"
        self._texts: dict[Channel, _Text] = {"thinking": _Text(), "answer": _Text()}

    @property
    def count(self) -> int:
        """How many tokens were taken."""
        return len(self._ids)

    @property
    def full(self) -> bool:
        return len(self._ids) == self._capacity

    @property
    def left(self) -> int:
        """How many tokens can still be taken."""
        return self._capacity - len(self._ids)

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thought."""
        return self._channel == "thinking"

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    def text(self, channel: Channel) -> str:
        return str(self._texts[channel])

    def tokens(self, channel: Channel) -> int:
        return self._texts[channel].tokens

    def stops(self, token: int) -> bool:
        """Whether the answer ends with `token`."""
        return token in self._stop_ids

    def add(self, token: int) -> Event:
        """Take `token` and tell what it adds to which text. The last token also brings what was still incomplete."""
        self._ids.append(token)
        channel, facts = self._channel, self._facts
        if token == facts.think_token_id:
            return self._turn_to("thinking", token)
        if token in (facts.end_think_token_id, facts.nothink_token_id):
            return self._turn_to("answer", token)
        if self.stops(token):
            return Event(kind=channel, text=self._flush(), token_id=token)
        text = self._texts[channel]
        text.tokens += 1
        shown = text.add(self._detokeniser.push(token))
        return Event(kind=channel, text=shown + self._flush() if self.full else shown, token_id=token)

    def end(self) -> Event | None:
        """What was incomplete when the request was stopped from outside, if anything."""
        rest = self._flush()
        return Event(kind=self._channel, text=rest) if rest else None

    def _turn_to(self, channel: Channel, token: int) -> Event:
        event = Event(kind=self._channel, text=self._flush(), token_id=token)
        self._channel = channel
        return event

    def _flush(self) -> str:
        return self._texts[self._channel].add(self._detokeniser.flush())
