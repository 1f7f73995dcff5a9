"""Answer of llama.cpp: the request in its terms, and its events as parts of an answer."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from serving.engine.base import TIMED_OUT
from serving.engine.requests import AnswerPart, FinishReason, GenerationRequest
from serving.engine.sampling import TokenLogProb

_SEEDS = 2**32 - 1
"""The largest number of 32 bits means a random seed."""

_LOST = (
    "llama.cpp reports no log-probability of a token that is a part of a character, and the answer "
    "has {} of them. Leave logprobs out, or serve the safetensors with --engine transformers"
)


def completion_body(request: GenerationRequest) -> bytes:
    """Return the body of a request to llama.cpp's completions."""
    settings = request.settings
    sampling = settings.sampling
    body: dict[str, Any] = {
        "prompt": request.prompt,
        "max_tokens": settings.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,  # llama.cpp excludes unlikely tokens by default
        "samplers": ["temperature", "top_k", "top_p"],
        "stop": settings.stop,
        "ignore_eos": settings.ignore_end,
        "stream": True,
        "return_progress": True,  # an event for each part of the prompt, at which it can be ended
    }
    if sampling.seed is not None:
        digest = hashlib.sha256(repr(sampling.seed).encode()).digest()
        body["seed"] = int.from_bytes(digest[:8], "big") % _SEEDS
    if settings.log_probs is not None:
        body["logprobs"] = max(1, settings.log_probs)
    return orjson.dumps(body)


class LlamaCppAnswer:
    """Answer in progress.

    Args:
        request: The request.
        drops_space: Whether the tokenizer's decoder removes the space before a first word.
    """

    def __init__(self, request: GenerationRequest, drops_space: bool):
        self.request = request
        self.finished = False
        self.stopping = False
        self._at_start = drops_space
        self._count = self._scored = 0

    def receive(self, event: bytes) -> bool:
        """Deliver an event; return True to end the answer."""
        try:
            return self._receive(orjson.loads(event))
        except Exception as error:
            # An exception would be lost in the bindings.
            self.end("error", f"the engine failed: {type(error).__name__}: {error}")
            return True

    def end(self, reason: FinishReason, error: str = "") -> None:
        """End the answer as it is, unless it has ended."""
        if not self.finished:
            self.finished = True
            self.request.end(reason, error)

    def _receive(self, event: dict[str, Any]) -> bool:
        if error := event.get("error"):
            self.end("error", f"the engine failed: {error.get('message', error)}")
        elif self.request.cancelled:
            self.end("cancelled")
        elif self.request.expired:
            self.end("error", TIMED_OUT)
        elif "prompt_progress" not in event:
            self._deliver(event["choices"][0], event.get("usage"))
        return self.finished or self.stopping

    def _deliver(self, choice: dict[str, Any], usage: dict[str, int] | None) -> None:
        reason = choice["finish_reason"]
        log_probs = self._log_probs(choice)
        self._scored += len(log_probs)
        # A token that is a part of a character has no event; the last one has the number of all.
        count = 1 if usage is None else usage["completion_tokens"] - self._count
        self._count += count
        lost = self._count - self._scored
        if reason is not None and lost and self.request.settings.log_probs is not None:
            self.end("error", _LOST.format(lost))
            return
        text = choice["text"]
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix(" ")
        self.finished = reason is not None
        self.request.deliver(AnswerPart(text, count, log_probs, (), reason))

    def _log_probs(self, choice: dict[str, Any]) -> tuple[TokenLogProb, ...]:
        top = self.request.settings.log_probs
        found = choice.get("logprobs")
        if top is None or not found:
            return ()
        return tuple(
            TokenLogProb(
                entry["id"],
                entry["logprob"],
                tuple((other["id"], other["logprob"]) for other in entry["top_logprobs"][:top]),
            )
            for entry in found["content"]
        )
