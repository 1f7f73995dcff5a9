"""Log of requests and their answers, masked, for `temper watch`.

A thread of its own masks and writes, so that no answer waits for it. If requests come faster than
they can be masked, what exceeds the queue is left out and counted.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from serving.errors import RequestError
from serving.http.part_delivery import NumberedPart
from serving.protocol.fields import SharedFields
from serving.protocol.prepared import PreparedRequest

logger = logging.getLogger(__name__)
FORMAT = "temper-request"
_PREFIX = "requests-"
_MAX_BYTES = 64 << 20
_MAX_FILES = 16
_MAX_QUEUE = 10_000
_FIELDS = ("temperature", "top_p", "top_k", "seed", "max_tokens", "max_completion_tokens", "stop")
"""Fields of requests that are logged. `user` and `metadata` can identify people, and are not."""
Mask = Callable[[Any, Mapping[str, Any]], dict[str, Any]]
"""Returns the columns of a row of a shape (`messages` or `prompt_completion`), masked."""


@dataclass
class _Answer:
    """Answer, as far as it has been received."""

    text: list[str] = field(default_factory=list)
    tokens: int = 0
    finish_reason: str = "abort"


@dataclass
class _Exchange:
    """Prompt with its answers, as it is queued."""

    prompt: str | list[Any]
    record: dict[str, Any]
    answers: list[_Answer]


class RequestLog:
    """Log in a folder: files of JSON Lines that only their owner reads, the oldest removed.

    Args:
        folder: The folder; None for the standard output, which a container's service collects.
        mask: Masks the texts of an exchange.
        max_bytes: Size from which another file is begun.
        max_files: Files that are kept.
        max_queue: Exchanges that wait to be written.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path | None,
        mask: Mask,
        *,
        max_bytes: int = _MAX_BYTES,
        max_files: int = _MAX_FILES,
        max_queue: int = _MAX_QUEUE,
    ):
        self._folder, self._mask = folder, mask
        self._max_bytes, self._max_files = max_bytes, max_files
        self._queue: queue.Queue[_Exchange | None] = queue.Queue(max_queue)
        self._file: IO[str] | None = None
        self.dropped = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open(folder)
        self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
        self._thread.start()

    async def recorded(
        self,
        body: SharedFields,
        prepared: PreparedRequest,
        parts: AsyncGenerator[NumberedPart, None],
    ) -> AsyncGenerator[NumberedPart, None]:
        """Yield the parts of the answers to a request, and log it when they have ended.

        Args:
            body: The request.
            prepared: The request as requests to the engine.
            parts: Parts of its answers.

        Raises:
            RequestError: An answer ended in an error.
        """
        answers = [_Answer() for _ in prepared.answers]
        started, first_token, error = time.monotonic(), None, None
        arrived = datetime.now(UTC)
        try:
            async with aclosing(parts):
                async for index, part in parts:
                    if part.token_count and first_token is None:
                        first_token = time.monotonic() - started
                    answer = answers[index]
                    answer.text.append(part.text)
                    answer.tokens += part.token_count
                    answer.finish_reason = part.finish_reason or answer.finish_reason
                    yield index, part
        except RequestError as fault:
            error = fault.message
            raise
        finally:
            record = {
                "format": FORMAT,
                "id": uuid.uuid4().hex,
                "time": arrived.isoformat(timespec="milliseconds"),
                "model": prepared.model,
                "latency_s": round(time.monotonic() - started, 6),
                "first_token_s": None if first_token is None else round(first_token, 6),
                "error": error,
            }
            for exchange in _exchanges(body, prepared, record, answers):
                self._put(exchange)

    def close(self) -> None:
        """Write what is queued, and end."""
        self._queue.put(None)
        self._thread.join()
        if self.dropped:
            logger.warning("%d exchanges were not logged: too many at once", self.dropped)

    def _put(self, exchange: _Exchange) -> None:
        try:
            self._queue.put_nowait(exchange)
        except queue.Full:
            if not self.dropped:
                logger.warning("requests come faster than they can be masked: some are not logged")
            self.dropped += 1

    def _write_all(self) -> None:
        while (exchange := self._queue.get()) is not None:
            try:
                self._write(exchange)
            except Exception as error:
                # A text could stand in the message of an unexpected error.
                logger.error("an exchange was not logged: %s", type(error).__name__)
        if self._file is not None:
            self._file.close()

    def _write(self, exchange: _Exchange) -> None:
        line = json.dumps(self._masked(exchange), ensure_ascii=False) + "\n"
        if self._folder is None:
            sys.stdout.write(line)
            sys.stdout.flush()
            return
        assert self._file is not None
        self._file.write(line)
        self._file.flush()
        if self._file.tell() >= self._max_bytes:
            self._file.close()
            self._open(self._folder)

    def _masked(self, exchange: _Exchange) -> dict[str, Any]:
        texts = ["".join(answer.text) for answer in exchange.answers]
        masked: list[str] = []
        prompt: Any = exchange.prompt
        for text in texts:
            # Each answer is masked with its prompt, so that a person has one placeholder in both.
            if isinstance(exchange.prompt, str):
                columns = {"prompt": exchange.prompt, "completion": text}
                columns = self._mask("prompt_completion", columns)
                prompt = columns["prompt"]
                masked.append(str(columns["completion"]))
            else:
                messages = [*exchange.prompt, {"role": "assistant", "content": text}]
                messages = self._mask("messages", {"messages": messages})["messages"]
                prompt = messages[:-1]
                masked.append(str(messages[-1]["content"]))
        request = exchange.record.pop("request")
        key = "prompt" if isinstance(prompt, str) else "messages"
        answers = [
            {"text": text, "tokens": answer.tokens, "finish_reason": answer.finish_reason}
            for text, answer in zip(masked, exchange.answers, strict=True)
        ]
        return {**exchange.record, "request": {key: prompt, **request}, "answers": answers}

    def _open(self, folder: Path) -> None:
        """Begin another file, and remove the oldest beyond the limit."""
        name = f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.jsonl"
        handle = os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._file = os.fdopen(handle, "a", encoding="utf-8")
        for old in sorted(folder.glob(f"{_PREFIX}*.jsonl"))[: -self._max_files]:
            old.unlink(missing_ok=True)


def _exchanges(
    body: SharedFields,
    prepared: PreparedRequest,
    record: Mapping[str, Any],
    answers: list[_Answer],
) -> list[_Exchange]:
    """Return an exchange for each prompt of a request.

    Args:
        body: The request.
        prepared: The request as requests to the engine.
        record: Members that the records of all of them have.
        answers: The answers, in the order of the prompts.
    """
    fields = body.model_dump(mode="json", exclude_unset=True)
    request = {name: fields[name] for name in _FIELDS if name in fields}
    found = []
    for start in range(0, len(answers), body.choices):
        ids = prepared.answers[start].prompt
        prompt = fields.get("messages")
        if prompt is None:
            given = fields.get("prompt")
            if isinstance(given, list) and given and isinstance(given[0], str):
                given = given[start // body.choices]
            # Token ids are logged as the text that they stand for, which can be masked.
            prompt = given if isinstance(given, str) else prepared.format.tokenizer.decode(ids)
        of_prompt = answers[start : start + body.choices]
        facts = {**record, "prompt_tokens": len(ids), "request": request}
        if start:
            facts["id"] = f"{record['id']}.{start // body.choices}"
        found.append(_Exchange(prompt, facts, of_prompt))
    return found
