"""Engine that answers with llama.cpp, whose server batches the sequences continuously.

A thread for each answer in progress waits for its tokens. llama.cpp ends a sequence with an error
if its cache is full, so that a request waits until the cache has a place for its longest answer.
"""

from __future__ import annotations

import threading
from collections import deque

from serving.engine.base import STOPPING, EngineLoad, end_waiting
from serving.engine.requests import GenerationRequest
from serving.llama_cpp.answer import LlamaCppAnswer, completion_body
from serving.llama_cpp.server import LlamaCppServer

_JOIN_SECONDS = 30.0
_LOOK_SECONDS = 0.2
"""Period in which waiting requests are compared with their deadlines."""


class LlamaCppEngine:
    """Engine that answers with llama.cpp.

    Args:
        server: The model.
        max_running: Most answers in progress at the same time.
        cache_tokens: Tokens of all answers in progress with their prompts.
        drops_space: Whether the tokenizer's decoder removes the space before a first word.
    """

    def __init__(
        self, server: LlamaCppServer, max_running: int, cache_tokens: int, *, drops_space: bool
    ):
        self._server, self._cache_tokens, self._drops_space = server, cache_tokens, drops_space
        self._waiting: deque[GenerationRequest] = deque()
        self._running: list[LlamaCppAnswer] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"llama.cpp-{number}", daemon=True)
            for number in range(max_running)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and free the model; requests that are not answered end in an error."""
        with self._changed:
            self._stopping = True
            for answer in self._running:
                answer.stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)
        for request in self._waiting:
            request.end("error", STOPPING)
        self._server.close()

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()

    def cancel(self, request: GenerationRequest) -> None:
        """End a request whose client has gone, at its next token or part of its prompt."""
        request.cancelled = True

    @property
    def load(self) -> EngineLoad:
        """Current load; the cache counts with all that the answers may still write."""
        running = list(self._running)
        reserved = sum(answer.request.longest for answer in running)
        return EngineLoad(len(running), len(self._waiting), reserved)

    @property
    def alive(self) -> bool:
        """True while all threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (answer := self._next()) is not None:
            try:
                if answer.request.settings.max_tokens:
                    self._server.complete(completion_body(answer.request), answer.receive)
                    answer.end("error", STOPPING if answer.stopping else "the engine failed")
                else:
                    answer.end("length")
            except Exception as error:
                answer.end("error", f"the engine failed: {type(error).__name__}: {error}")
            with self._changed:
                self._running.remove(answer)
                self._changed.notify_all()

    def _next(self) -> LlamaCppAnswer | None:
        """Wait for a request that has a place; return None when the engine stops."""
        with self._changed:
            while not self._stopping:
                end_waiting(self._waiting)
                if self._waiting and self._has_place(self._waiting[0]):
                    answer = LlamaCppAnswer(self._waiting.popleft(), self._drops_space)
                    self._running.append(answer)
                    return answer
                self._changed.wait(_LOOK_SECONDS if self._waiting else None)
        return None

    def _has_place(self, request: GenerationRequest) -> bool:
        reserved = sum(answer.request.longest for answer in self._running)
        return not reserved or reserved + request.longest <= self._cache_tokens
