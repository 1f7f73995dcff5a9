"""Client of models behind endpoints, for applications without asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

from client.async_client import AsyncClient, listed
from client.chat import AnswerDelta, CallSettings, ChatAnswer, Conversation
from client.chat_stream import AsyncChatStream
from client.endpoints.base import ChatEndpoint
from client.errors import ClientError
from client.settings import ClientSettings

Result = TypeVar("Result")


class _LoopThread:
    """Event loop in a thread of its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="temper-client", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C ends the call as well
            raise

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Client:
    """Client of a model behind one endpoint or several; threads may share it.

    `AsyncClient` does the work, in a thread that starts with the first call, also after a fork.

    Args:
        endpoints: The endpoint, or several: the first that answers does.
        settings: Settings of the client.

    Raises:
        InvalidArgumentError: There is no endpoint, or two have one name.
    """

    def __init__(
        self,
        endpoints: ChatEndpoint | Sequence[ChatEndpoint],
        settings: ClientSettings | None = None,
    ):
        self._endpoints, self._settings = listed(endpoints), settings
        self._lock = threading.Lock()
        self._thread: _LoopThread | None = None
        self._client: AsyncClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        with self._lock:
            thread, client = self._thread, self._client
            self._thread = self._client = None
        if thread is not None and client is not None and thread.process == os.getpid():
            thread.run(client.aclose())
            thread.stop()

    @property
    def circuits(self) -> Mapping[str, str]:
        """State of the circuit breaker of each endpoint: `closed`, `open` or `half-open`."""
        return self._started()[1].circuits

    def chat(self, messages: Conversation, **settings: Unpack[CallSettings]) -> ChatAnswer:
        """Return the answer to a conversation.

        Args:
            messages: The conversation.
            settings: Settings of the call.

        Raises:
            ClientError: It cannot be sent, or is not answered; the subclass says which.
        """
        thread, client = self._started()
        return thread.run(client.chat(messages, **settings))

    def stream(self, messages: Conversation, **settings: Unpack[CallSettings]) -> ChatStream:
        """Return the answer to a conversation as a stream of its parts.

        With guardrails, the answer comes in one part: they examine all of it.

        Args:
            messages: The conversation.
            settings: Settings of the call.
        """
        thread, client = self._started()
        return ChatStream(thread, client.stream(messages, **settings))

    def chat_many(
        self, conversations: Sequence[Conversation], **settings: Unpack[CallSettings]
    ) -> list[ChatAnswer | ClientError]:
        """Return the answer to each conversation, or its error, in order.

        Args:
            conversations: The conversations; `max_concurrency` are asked at the same time.
            settings: Settings of each call.
        """
        thread, client = self._started()
        return thread.run(client.chat_many(conversations, **settings))

    def _started(self) -> tuple[_LoopThread, AsyncClient]:
        with self._lock:
            thread, client = self._thread, self._client
            if thread is None or client is None or thread.process != os.getpid():
                # A forked process has no threads, and must not use connections of its parent.
                thread = self._thread = _LoopThread()
                client = self._client = AsyncClient(self._endpoints, self._settings)
            return thread, client


class ChatStream:
    """Answer as an iterator over its parts.

    `with` closes the connection when the loop ends early, which ends the work for the answer.

    Args:
        thread: Thread of the event loop.
        stream: The stream in that loop.
    """

    def __init__(self, thread: _LoopThread, stream: AsyncChatStream):
        self._thread, self._stream = thread, stream
        self._parts = aiter(stream)

    @property
    def answer(self) -> ChatAnswer | None:
        """The whole answer, when all parts have come; else None."""
        return self._stream.answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[AnswerDelta]:
        return self

    def __next__(self) -> AnswerDelta:
        part = self._thread.run(self._next())
        if part is None:
            raise StopIteration
        return part

    async def _next(self) -> AnswerDelta | None:
        return await anext(self._parts, None)

    def close(self) -> None:
        """Close the connection."""
        self._thread.run(self._stream.aclose())
