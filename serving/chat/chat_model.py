"""Model that answers in a chat, in this process."""

from __future__ import annotations

import queue
from collections.abc import Generator
from dataclasses import dataclass

from serving.chat.check import explain_no_template
from serving.engine.requests import AnswerPart, AnswerSettings, GenerationRequest
from serving.engine.sampling import SamplingSettings
from serving.errors import RequestError
from serving.model import ServedModel
from serving.protocol.prepared import answer_length
from training.data.schema.rows import Message
from training.errors import ModelError
from training.judges.local_generator import prompt_seed


@dataclass(frozen=True)
class ChatSettings:
    """Settings of the answers in a chat.

    Attributes:
        temperature: Sampling temperature; 0 for the most likely answer.
        top_p: Share of the probability from which tokens are drawn.
        max_tokens: Longest answer; None for what the context leaves.
        seed: Seed of the answers; the same conversation then gets the same answer.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int | None = None
    seed: int = 0


class ChatModel:
    """Served model that answers one conversation at a time.

    Args:
        served: The model.

    Raises:
        ModelError: It has no chat template.
    """

    def __init__(self, served: ServedModel):
        self._format = served.formats[None]
        if self._format.rows.template is None:
            raise ModelError(explain_no_template(served.source))
        self.name = served.name
        self._served = served
        self._engine = served.build_engine(max_running=1)
        self._engine.start()

    def answer(
        self, messages: list[Message], settings: ChatSettings, draw: int = 0
    ) -> Generator[str, None, None]:
        """Yield the answer to a conversation in parts; a closed generator ends the work.

        Args:
            messages: The conversation.
            settings: Settings of the answer.
            draw: Number of the answer: each is drawn independently.

        Raises:
            RequestError: The conversation does not fit the context, or the engine failed.
        """
        ids = self._format.rows.prompt_ids(messages)
        length = answer_length(self._served, ids, settings.max_tokens, "messages")
        seed = (settings.seed, draw, prompt_seed(messages))
        sampling = SamplingSettings(settings.temperature, settings.top_p, seed=seed)
        parts: queue.Queue[AnswerPart] = queue.Queue()
        request = GenerationRequest(ids, AnswerSettings(length, sampling), parts.put)
        self._engine.submit(request)
        reason = None
        try:
            while reason is None:
                part = parts.get()
                reason = part.finish_reason
                if reason == "error":
                    raise RequestError(part.error, 500)
                yield part.text
        finally:
            if reason is None:
                self._engine.cancel(request)

    def close(self) -> None:
        """End the engine."""
        self._engine.stop()
