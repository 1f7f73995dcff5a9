"""One call on its way: what is sent, its limits, and what is recorded of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.chat import ChatAnswer, ChatCall, ModelReply, TokenUsage
from client.endpoint_caller import CallProgress
from client.endpoints.base import ChatEndpoint
from client.masking import MaskedCall
from client.metrics import CallRecord, RecordCall

_LOG = logging.getLogger("temper.client")


@dataclass
class CallContext:
    """One call on its way.

    Attributes:
        masked: The call as it leaves the process.
        timeout_s: Limit until the answer, or the first part of a stream.
        metrics: Receives the record of the call; None if none is written.
        started: Time at which it began, by `time.monotonic`.
        progress: What has happened to it.
        first_token_s: Seconds until the first part of a stream.
        answered: The answer, when it is complete.
    """

    masked: MaskedCall
    timeout_s: float
    metrics: RecordCall | None
    started: float
    progress: CallProgress = field(default_factory=CallProgress)
    first_token_s: float | None = None
    answered: ChatAnswer | None = None

    @property
    def call(self) -> ChatCall:
        """The call as it leaves the process."""
        return self.masked.call

    @property
    def deadline(self) -> float:
        """Time at which the call ends, by `time.monotonic`."""
        return self.started + self.timeout_s

    def answer(
        self, endpoint: ChatEndpoint, reply: ModelReply, text: str, from_cache: bool
    ) -> ChatAnswer:
        """Return the answer, with values in place of the placeholders.

        Args:
            endpoint: Endpoint that answered.
            reply: Its reply.
            text: Text of the reply, as the guardrails let it pass.
            from_cache: Whether nothing was sent for it.
        """
        tool_calls: tuple[Mapping[str, Any], ...] = tuple(
            self.masked.unmask_json(call) for call in reply.tool_calls
        )
        cost = None if endpoint.price is None else endpoint.price.cost_usd(reply.usage)
        self.answered = ChatAnswer(
            self.masked.unmask(text),
            reply.finish_reason,
            reply.usage,
            tool_calls,
            endpoint=endpoint.name,
            cost_usd=0.0 if from_cache and cost is not None else cost,
            from_cache=from_cache,
            retries=self.progress.retries,
            latency_s=time.monotonic() - self.started,
        )
        return self.answered

    def record(self, error: BaseException | None) -> None:
        """Record the end of the call; an error of the metrics does not become one of the call.

        Args:
            error: Error with which it ended; None if it was answered.
        """
        if self.metrics is None:
            return
        answered, progress = self.answered, self.progress
        spent = answered is not None and not answered.from_cache
        record = CallRecord(
            endpoint=progress.endpoint,
            latency_s=time.monotonic() - self.started,
            first_token_s=self.first_token_s,
            usage=answered.usage if answered is not None and spent else TokenUsage(),
            cost_usd=None if answered is None else answered.cost_usd,
            retries=progress.retries,
            hedges=progress.hedges,
            fallbacks=progress.fallbacks,
            from_cache=answered is not None and answered.from_cache,
            masked_values=self.masked.count,
            error=None if error is None else type(error).__name__,
        )
        try:
            self.metrics(record)
        except Exception as failure:
            _LOG.warning("the metrics of a call were not written: %s", type(failure).__name__)
