"""Client of models behind endpoints, for applications that use asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self, Unpack

from client.chat import CallSettings, ChatAnswer, Conversation
from client.chat_stream import AsyncChatStream
from client.endpoints.base import ChatEndpoint
from client.errors import ClientError, InvalidArgumentError
from client.exchange import ChatExchange
from client.settings import ClientSettings


class AsyncClient:
    """Client of a model behind one endpoint or several.

    It belongs to the event loop in which it is first used. `async with` closes its connections.

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
        self._exchange = ChatExchange(listed(endpoints), settings or ClientSettings())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    @property
    def circuits(self) -> Mapping[str, str]:
        """State of the circuit breaker of each endpoint: `closed`, `open` or `half-open`."""
        return {
            caller.endpoint.name: "closed" if caller.breaker is None else caller.breaker.state
            for caller in self._exchange.callers
        }

    async def chat(self, messages: Conversation, **settings: Unpack[CallSettings]) -> ChatAnswer:
        """Return the answer to a conversation.

        Args:
            messages: The conversation.
            settings: Settings of the call.

        Raises:
            ClientError: It cannot be sent, or is not answered; the subclass says which.
        """
        async with self._exchange.context(messages, settings) as context:
            return await self._exchange.answer(context)

    def stream(self, messages: Conversation, **settings: Unpack[CallSettings]) -> AsyncChatStream:
        """Return the answer to a conversation as a stream of its parts.

        With guardrails, the answer comes in one part: they examine all of it.

        Args:
            messages: The conversation.
            settings: Settings of the call.
        """
        return AsyncChatStream(self._exchange, messages, settings)

    async def chat_many(
        self, conversations: Sequence[Conversation], **settings: Unpack[CallSettings]
    ) -> list[ChatAnswer | ClientError]:
        """Return the answer to each conversation, or its error, in order.

        At most `max_concurrency` are in progress at the same time, which the endpoint decodes
        together; equal ones with a seed or temperature 0 are sent once.

        Args:
            conversations: The conversations.
            settings: Settings of each call.
        """

        async def one(messages: Conversation) -> ChatAnswer | ClientError:
            try:
                return await self.chat(messages, **settings)
            except ClientError as error:
                return error

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(messages)) for messages in conversations]
        return [task.result() for task in tasks]


def listed(endpoints: ChatEndpoint | Sequence[ChatEndpoint]) -> list[ChatEndpoint]:
    """Return the endpoints as a list.

    Raises:
        InvalidArgumentError: There is no endpoint, or two have one name.
    """
    found = [endpoints] if isinstance(endpoints, ChatEndpoint) else list(endpoints)
    names = [endpoint.name for endpoint in found]
    if not found or len(set(names)) < len(names):
        raise InvalidArgumentError(
            [f"endpoints are one or more, each with a name of its own (got {', '.join(names)})"]
        )
    return found
