"""Interface of engines: what answers requests, whichever library computes the tokens."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from serving.engine.requests import GenerationRequest

TIMED_OUT = "the request timed out"
STOPPING = "the server is stopping"
UNLOADED = "the adapter was unloaded"


@dataclass(frozen=True)
class EngineLoad:
    """Load of an engine.

    Attributes:
        running: Answers in progress.
        waiting: Requests that wait for a place.
        cached_tokens: Tokens in the cache.
    """

    running: int
    waiting: int
    cached_tokens: int


class AnswerEngine(Protocol):
    """Engine that answers requests in threads of its own."""

    @property
    def load(self) -> EngineLoad:
        """Current load."""

    @property
    def alive(self) -> bool:
        """True while requests are answered."""

    def start(self) -> None:
        """Start to answer."""

    def stop(self) -> None:
        """End; requests that are not answered end in an error."""

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request."""

    def cancel(self, request: GenerationRequest) -> None:
        """End a request whose client has gone."""


def end_waiting(waiting: deque[GenerationRequest]) -> None:
    """End waiting requests that were cancelled or have waited too long, and remove them."""
    for request in list(waiting):
        if request.cancelled:
            request.end("cancelled")
        elif request.expired:
            request.end("error", TIMED_OUT)
        else:
            continue
        waiting.remove(request)
