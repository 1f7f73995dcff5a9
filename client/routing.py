"""Choice of the endpoint that answers: the first of several that does."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from client.call_context import CallContext
from client.endpoint_caller import EndpointCaller
from client.errors import EndpointError, NoEndpointAnsweredError, RequestRefusedError

_LOG = logging.getLogger("temper.client")
Result = TypeVar("Result")
Ask = Callable[[EndpointCaller, float], Awaitable[Result]]
"""Asks an endpoint, until a time by `time.monotonic`."""


async def first_answer(
    callers: Sequence[EndpointCaller], context: CallContext, ask: Ask[Result]
) -> tuple[EndpointCaller, Result]:
    """Return the first endpoint that answers, and its result.

    Each endpoint has an equal share of the time that is left, so that one that hangs leaves some
    to the next. A request that an endpoint refuses is not sent to the next one.

    Args:
        callers: The endpoints, in order.
        context: The call.
        ask: Asks an endpoint.

    Raises:
        RequestRefusedError: One refused the request.
        NoEndpointAnsweredError: None answered; the error of a single one is raised as it is.
    """
    errors: dict[str, EndpointError] = {}
    for index, caller in enumerate(callers):
        endpoint = caller.endpoint
        context.progress.endpoint = endpoint.name
        if problems := endpoint.unsupported(context.call):
            errors[endpoint.name] = RequestRefusedError("; ".join(problems))
            continue
        now = time.monotonic()
        share = max(0.0, context.deadline - now) / (len(callers) - index)
        try:
            return caller, await ask(caller, now + share)
        except RequestRefusedError:
            raise
        except EndpointError as error:
            errors[endpoint.name] = error
            context.progress.fallbacks += index + 1 < len(callers)
            # The message of a service may quote the prompt, so it is not logged.
            _LOG.warning(
                "%s did not answer: %s (HTTP %s)", endpoint.name, type(error).__name__, error.status
            )
    if len(errors) == 1:
        (only,) = errors.values()
        raise only
    raise NoEndpointAnsweredError(errors)
