"""Interface of endpoints, and the HTTP exchange that they share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from account.errors import AccountError
from client.chat import AnswerDelta, ChatCall, ModelReply
from client.endpoints.http_errors import endpoint_error
from client.errors import AccessRefusedError, UnavailableError
from client.prices import TokenRates


@dataclass(frozen=True, slots=True)
class HttpCall:
    """Request of a call.

    Attributes:
        url: Address.
        body: Body, sent as JSON.
        headers: Headers other than the content type.
        auth: Authentication of the request.
    """

    url: str
    body: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: httpx2.Auth = field(default_factory=httpx2.Auth, repr=False)


class ChatEndpoint(ABC):
    """Endpoint of a model that answers conversations.

    Args:
        name: Name in messages, metrics and answers.
        price: Prices of its tokens; None if it has none, as an instance that is paid by the hour.

    Attributes:
        name: Name in messages, metrics and answers.
        price: Prices of its tokens.
    """

    def __init__(self, name: str, price: TokenRates | None):
        self.name, self.price = name, price

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """All that determines an answer in addition to the call, for the response cache."""

    @abstractmethod
    def request(self, call: ChatCall, stream: bool) -> HttpCall:
        """Return the request of a call.

        Args:
            call: The call.
            stream: Whether the answer is streamed.
        """

    @abstractmethod
    def parse(self, body: Any) -> ModelReply:
        """Return the reply in a response; any error of a lookup means that it is none."""

    @abstractmethod
    def deltas(self, response: httpx2.Response) -> AsyncIterator[AnswerDelta]:
        """Yield the parts of a streamed response."""

    def unsupported(self, call: ChatCall) -> list[str]:
        """Return what the endpoint cannot do of a call."""
        return []

    async def answer(self, http: httpx2.AsyncClient, call: ChatCall) -> ModelReply:
        """Return the reply to a call.

        Args:
            http: HTTP client.
            call: The call.

        Raises:
            UnavailableError: The endpoint did not answer; a refusal has its own class.
        """
        with self._transport_errors():
            request = self.request(call, stream=False)
            response = await http.post(
                request.url, json=request.body, headers=request.headers, auth=request.auth
            )
        if response.status_code != httpx2.codes.OK:
            refusal = endpoint_error(self.name, response)
            raise refusal
        try:
            return self.parse(json.loads(response.content))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise UnavailableError(
                f"{self.name} answered HTTP 200 with a body that is no answer "
                f"({type(error).__name__}): is the address right?"
            ) from None

    @asynccontextmanager
    async def open_stream(
        self, http: httpx2.AsyncClient, call: ChatCall
    ) -> AsyncIterator[AsyncIterator[AnswerDelta]]:
        """Open a streamed answer and yield its parts.

        Args:
            http: HTTP client.
            call: The call.

        Raises:
            UnavailableError: The endpoint did not answer; a refusal has its own class.
        """
        with self._transport_errors():
            request = self.request(call, stream=True)
            sent = http.build_request(
                "POST", request.url, json=request.body, headers=request.headers
            )
            response = await http.send(sent, auth=request.auth, stream=True)
        try:
            if response.status_code != httpx2.codes.OK:
                with self._transport_errors():
                    await response.aread()
                refusal = endpoint_error(self.name, response)
                raise refusal
            yield self._checked(response)
        finally:
            await response.aclose()

    async def _checked(self, response: httpx2.Response) -> AsyncIterator[AnswerDelta]:
        """Yield the parts of a response; one that ends without a reason has broken off.

        Raises:
            UnavailableError: It broke off, or a part is none.
        """
        finished = False
        with self._transport_errors():
            try:
                async for delta in self.deltas(response):
                    finished = finished or delta.finish_reason is not None
                    yield delta
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise UnavailableError(
                    f"{self.name} sent a part of a stream that is none ({type(error).__name__})"
                ) from None
        if not finished:
            raise UnavailableError(f"{self.name} ended the stream before the answer was complete")

    @contextmanager
    def _transport_errors(self) -> Iterator[None]:
        """Turn the errors of a connection into errors of the endpoint.

        Raises:
            AccessRefusedError: There are no usable credentials.
            UnavailableError: The connection failed.
        """
        try:
            yield
        except AccountError as error:
            raise AccessRefusedError(f"{self.name} cannot be called: {error}") from None
        except httpx2.TimeoutException as error:
            raise UnavailableError(f"{self.name} timed out ({type(error).__name__})") from None
        except httpx2.HTTPError as error:
            reason = " ".join(str(error).split()) or "the connection was lost"
            raise UnavailableError(
                f"{self.name} cannot be reached ({type(error).__name__}: {reason})"
            ) from None
