"""State of an answer while the engine writes it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from serving.engine.executor import SequencePart
from serving.engine.requests import AnswerPart, FinishReason, GenerationRequest
from serving.engine.sampling import TokenLogProb, log_probs_of
from serving.engine.text_stream import TextStream


class RunningSequence:
    """Prompt and answer that occupy a slot of the cache.

    Args:
        request: The request.
        tokenizer: Tokenizer that decodes the answer.
        end_ids: Tokens that end an answer.
    """

    def __init__(self, request: GenerationRequest, tokenizer: Any, end_ids: frozenset[int]):
        self.request = request
        self.random = request.settings.sampling.stream()
        self.cached = 0  # tokens in the cache
        self.tokens: list[int] = []
        self.finished = False
        self._end_ids = frozenset() if request.settings.ignore_end else end_ids
        self._text = TextStream(tokenizer, request.settings.stop)
        self._prompt_log_probs: list[TokenLogProb] = []

    @property
    def reading(self) -> bool:
        """True while a part of the prompt is not in the cache."""
        return self.cached < len(self.request.prompt)

    def next_part(self, slot: int, budget: int) -> SequencePart | None:
        """Return the tokens to read next; None if there is no budget for a part of the prompt.

        Args:
            slot: Slot of the sequence.
            budget: Most tokens of a part of the prompt.
        """
        adapter, settings = self.request.adapter, self.request.settings
        if not self.reading:
            return SequencePart(slot, self.tokens[-1:], self.cached, adapter)
        ids = self.request.prompt[self.cached : self.cached + max(0, budget)]
        if not ids:
            return None
        keep = int(self.cached + len(ids) == len(self.request.prompt) and settings.max_tokens > 0)
        if settings.prompt_log_probs is not None:
            keep = len(ids)
        return SequencePart(slot, ids, self.cached, adapter, keep)

    def advance(self, part: SequencePart, logits: Tensor) -> None:
        """Count a part as cached, and take the log-probabilities of the prompt from its logits.

        Args:
            part: What was read.
            logits: Logits of the tokens that it keeps, [tokens, vocabulary].
        """
        top = self.request.settings.prompt_log_probs
        if self.reading and top is not None:
            following = self.request.prompt[self.cached + 1 : self.cached + len(part.ids) + 1]
            found = log_probs_of(logits[: len(following)], following, top)
            self._prompt_log_probs.extend(found)
        self.cached += len(part.ids)

    def add(self, token: int, log_prob: tuple[TokenLogProb, ...]) -> None:
        """Add a token to the answer and deliver what can be said of it."""
        self.tokens.append(token)
        ended = token in self._end_ids
        text = self._text.push(token)
        reason: FinishReason | None = None
        if self._text.stopped or ended:
            reason = "stop"
        elif len(self.tokens) >= self.request.settings.max_tokens:
            reason = "length"
        if reason:
            text += self._text.finish()
            reason = "stop" if self._text.stopped else reason
        self._deliver(AnswerPart(text, 1, log_prob, self._prompt(), reason))

    def end(self, reason: FinishReason, error: str = "") -> None:
        """End the answer as it is."""
        self._deliver(
            AnswerPart(prompt_log_probs=self._prompt(), finish_reason=reason, error=error)
        )

    def _prompt(self) -> tuple[TokenLogProb, ...]:
        found, self._prompt_log_probs = tuple(self._prompt_log_probs), []
        return found

    def _deliver(self, part: AnswerPart) -> None:
        self.finished = self.finished or part.finish_reason is not None
        self.request.deliver(part)
