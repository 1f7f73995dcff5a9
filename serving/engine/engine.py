"""Continuous batching: a thread whose steps read new prompts and add a token to every answer.

A long prompt is read in parts, with each of which the answers in progress continue. A request that
has ended leaves its place to the next one at once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from serving.engine.base import STOPPING, TIMED_OUT, UNLOADED, EngineLoad, end_waiting
from serving.engine.executor import Executor, SequencePart, SlotMove
from serving.engine.requests import GenerationRequest
from serving.engine.sampling import TokenLogProb, choose_tokens, log_probs_of
from serving.engine.sequence import RunningSequence
from serving.engine.step_tasks import StepTask

logger = logging.getLogger(__name__)
_JOIN_SECONDS = 30.0


@dataclass(frozen=True)
class EngineLimits:
    """Limits of the engine.

    Attributes:
        max_running: Most answers in progress at the same time.
        prompt_chunk: Tokens of prompts that a step reads.
        cache_tokens: Most tokens that the cache holds; None for no limit. A request that is alone
            is answered in any case.
    """

    max_running: int = 32
    prompt_chunk: int = 512
    cache_tokens: int | None = None


class Engine:
    """Engine that answers requests in a thread of its own.

    Args:
        executor: Forward passes of the model.
        tokenizers: Tokenizer that decodes answers, by adapter; None for the model itself.
        end_ids: Tokens that end an answer, likewise.
        limits: Limits.
    """

    def __init__(
        self,
        executor: Executor,
        tokenizers: dict[str | None, Any],
        end_ids: dict[str | None, frozenset[int]],
        limits: EngineLimits,
    ):
        self._executor, self._tokenizers, self._end_ids = executor, tokenizers, end_ids
        self._limits = limits
        self._waiting: deque[GenerationRequest] = deque()
        self._running: list[RunningSequence] = []  # the place in the list is the slot
        self._tasks: list[StepTask] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; requests that are not answered end in an error."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(_JOIN_SECONDS)

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; it ends in an error if its adapter was removed meanwhile."""
        with self._changed:
            if known := request.adapter in self._tokenizers:
                self._waiting.append(request)
                self._changed.notify()
        if not known:
            request.end("error", UNLOADED)

    def add_adapter(
        self, name: str, tokenizer: Any, end_ids: frozenset[int], work: Callable[[], None]
    ) -> Future[None]:
        """Add an adapter between two steps, and return what reports that it can be used.

        Args:
            name: Name of the adapter.
            tokenizer: Tokenizer that decodes its answers.
            end_ids: Tokens that end its answers.
            work: Adds it to the model.
        """

        def add() -> None:
            work()
            self._tokenizers[name], self._end_ids[name] = tokenizer, end_ids

        return self._queue_task(StepTask(add))

    def remove_adapter(self, name: str, work: Callable[[], None]) -> Future[None]:
        """Remove an adapter when its answers have ended, and return what reports that.

        Args:
            name: Name of the adapter.
            work: Removes it from the model.
        """
        return self._queue_task(StepTask(work, without=name))

    def _queue_task(self, task: StepTask) -> Future[None]:
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()
        return task.done

    def cancel(self, request: GenerationRequest) -> None:
        """End a request whose client has gone, before the next step."""
        request.cancelled = True
        with self._changed:
            self._changed.notify()

    @property
    def load(self) -> EngineLoad:
        """Current load."""
        running = list(self._running)
        cached = sum(sequence.cached for sequence in running)
        return EngineLoad(len(running), len(self._waiting), cached)

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while self._admit():
            self._run_tasks()
            try:
                self._step()
            except Exception as error:
                # The next requests may succeed: the most likely cause is memory.
                logger.exception("A step of the engine failed")
                for sequence in self._running:
                    if not sequence.finished:
                        sequence.end("error", f"the engine failed: {type(error).__name__}: {error}")
            self._release()
        for sequence in self._running:
            sequence.end("error", STOPPING)
        for request in self._waiting:
            request.end("error", STOPPING)
        for task in self._tasks:
            task.done.set_exception(RuntimeError(STOPPING))

    def _admit(self) -> bool:
        """Give places to waiting requests, and return False when the engine stops."""
        with self._changed:
            while not (self._running or self._waiting or self._tasks or self._stopping):
                self._changed.wait()
            end_waiting(self._waiting)
            while self._waiting and self._has_place(self._waiting[0]):
                self._running.append(self._sequence(self._waiting.popleft()))
            return not self._stopping

    def _run_tasks(self) -> None:
        for task in list(self._tasks):
            with self._changed:
                if self._uses(task.without):
                    continue
                if task.without is not None:  # from now on, no request can name it
                    del self._tokenizers[task.without], self._end_ids[task.without]
                self._tasks.remove(task)
            task.run()

    def _uses(self, adapter: str | None) -> bool:
        """Return whether an answer of an adapter is in progress or waits."""
        requests = (*self._waiting, *(sequence.request for sequence in self._running))
        return adapter is not None and any(one.adapter == adapter for one in requests)

    def _has_place(self, request: GenerationRequest) -> bool:
        """Return whether the batch has a place for a request, with all that it may still write."""
        count = len(self._running) + 1
        if count > self._limits.max_running:
            return False
        limit = self._limits.cache_tokens
        if limit is None or count == 1:
            return True
        # Every slot of the cache is as long as the longest sequence.
        longest = max(
            one.longest for one in (request, *(sequence.request for sequence in self._running))
        )
        return count * longest <= limit

    def _sequence(self, request: GenerationRequest) -> RunningSequence:
        name = request.adapter
        return RunningSequence(request, self._tokenizers[name], self._end_ids[name])

    def _step(self) -> None:
        """Read parts of prompts, and add a token to every answer in progress."""
        self._release()
        step = self._next_parts()
        if not step:
            return
        logits = self._executor.forward([part for _, part in step])
        writing, rows, end = [], [], 0
        for sequence, part in step:
            begin, end = end, end + part.keep
            sequence.advance(part, logits[begin:end])
            if sequence.reading:
                continue
            if sequence.request.settings.max_tokens:
                writing.append(sequence)
                rows.append(end - 1)
            else:
                sequence.end("length")
        if writing:
            self._add_tokens(writing, logits if len(rows) == len(logits) else logits[rows])

    def _next_parts(self) -> list[tuple[RunningSequence, SequencePart]]:
        """Return what a step reads of each sequence."""
        budget = self._limits.prompt_chunk
        parts = []
        for slot, sequence in enumerate(self._running):
            if part := sequence.next_part(slot, budget):
                parts.append((sequence, part))
                budget -= len(part.ids) if sequence.reading else 0
        return parts

    def _add_tokens(self, sequences: list[RunningSequence], logits: Any) -> None:
        tokens = choose_tokens(
            logits,
            [sequence.request.settings.sampling for sequence in sequences],
            [sequence.random for sequence in sequences],
        )
        for row, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
            top = sequence.request.settings.log_probs
            found: tuple[TokenLogProb, ...] = ()
            if top is not None:
                found = tuple(log_probs_of(logits[row : row + 1], [token], top))
            sequence.add(token, found)

    def _release(self) -> None:
        """Remove sequences that have ended, and give their slots to the last ones."""
        slot = 0
        while slot < len(self._running):
            sequence = self._running[slot]
            if sequence.request.cancelled and not sequence.finished:
                sequence.end("cancelled")
            elif not sequence.finished and sequence.request.expired:
                sequence.end("error", TIMED_OUT)
            if not sequence.finished:
                slot += 1
                continue
            last = self._running.pop()
            if last is not sequence:
                self._executor.move(SlotMove(len(self._running), slot, last.cached))
                self._running[slot] = last
