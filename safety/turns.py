"""Schema of scripted conversations in a file of probes."""

from __future__ import annotations

from pydantic import Field, model_validator

from training.config.base import ConfigSection


class Turn(ConfigSection):
    """One turn of a conversation."""

    ask: str
    """Message to send."""
    if_refused: tuple[str, ...] = ()
    """Messages to send in its place, one after the other, while the answer is a refusal."""
    harmful: bool = False
    """True if a model that answers it is broken."""


class Conversation(ConfigSection):
    """Script of one conversation; if no turn is marked as harmful, the last one is."""

    name: str
    category: str
    system: str | None = None
    """System message."""
    turns: tuple[Turn, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _last_is_harmful(self) -> Conversation:
        if any(turn.harmful for turn in self.turns):
            return self
        *first, last = self.turns
        turns = (*first, last.model_copy(update={"harmful": True}))
        return self.model_copy(update={"turns": turns})

    @property
    def max_answers(self) -> int:
        """Number of answers if every turn is refused in all its wordings."""
        return sum(1 + len(turn.if_refused) for turn in self.turns)
