"""Judges behind a network: calls side by side, paced, repeated, kept and paid for once."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from training.config.judges import Endpoint
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.cost_ledger import CostLedger, JudgeReply, characters, key_of

_REPEATED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses after which the same call may succeed."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0

Call = Callable[[httpx2.Client, list[Message]], JudgeReply]
"""Makes one call; raises `httpx2.HTTPError` where it fails."""


class RateLimiter:
    """Lets so many calls begin in a minute, evenly.

    Args:
        per_minute: None for as many as come.
    """

    def __init__(self, per_minute: int | None):
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may begin."""
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._gap_s
        if at > now:
            time.sleep(at - now)


class UnreadableError(ValueError):
    """A reply that is not in the form of its protocol; it may be the next time."""


class _StopEvent(threading.Event):
    """Tells all calls of a batch that one has failed for good, and why."""

    why: RunError | None = None

    def because(self, fault: RunError) -> RunError:
        """Set it; return the first fault there was."""
        self.why = self.why or fault
        self.set()
        return self.why


class HttpJudge:
    """A judge that is called.

    Args:
        section: The job's section.
        place: Where it works.
        address: Where it is, for messages.
        identity: What decides a reply besides the question.
        call: Makes one call.
    """

    def __init__(
        self, section: Endpoint, place: JudgeContext, *, address: str, identity: Any, call: Call
    ):
        self.called = place.called
        self._section = section
        self._named = f"the {place.called} at {address}"
        self._identity = [identity, section.model, section.temperature, section.max_new_tokens]
        self._call = call
        self._client = httpx2.Client(timeout=section.timeout)
        self._pace = RateLimiter(section.calls_per_minute)
        self.ledger = CostLedger(
            kept_in(place) / f"{key_of(self._identity)[:24]}.sqlite",
            place.folder,
            price=section.price,
            max_cost_usd=place.max_cost_usd,
            longest_reply=section.max_new_tokens,
            called=place.called,
        )
        if place.max_cost_usd is not None and section.price is None:
            raise RunError(
                f"resources.max_cost is set, and the price of the {place.called} "
                f"{section.model} is not: give price: {{input: …, output: …}} in USD per million "
                f"tokens (0 for a {place.called} of your own)"
            )

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        """Return the reply to each conversation.

        Raises:
            RunError: It cannot be reached, or may cost no more.
        """
        return [reply.text for reply in self.said(questions)]

    def unknown(self, questions: Sequence[list[Message]]) -> list[list[Message]]:
        """Return the questions that were never answered, each once."""
        keyed = {key_of(self._identity, question): question for question in questions}
        return [one for key, one in keyed.items() if self.ledger.known(key) is None]

    def said(self, questions: Sequence[list[Message]]) -> list[JudgeReply]:
        """Return the reply to each conversation, and whether it was cut.

        Raises:
            RunError: It cannot be reached, or may cost no more.
        """
        stop = _StopEvent()
        keys = [key_of(self._identity, question) for question in questions]
        # What is asked twice is called for once.
        distinct = dict(zip(keys, questions, strict=True))
        with ThreadPoolExecutor(self._section.at_once) as pool:
            waiting = {
                key: pool.submit(self._reply, key, question, stop)
                for key, question in distinct.items()
            }
            try:
                replies = {key: one.result() for key, one in waiting.items()}
            except BaseException as error:
                stop.set()
                for one in waiting.values():
                    one.cancel()
                if isinstance(error, RunError) and stop.why:
                    # What is found first need not be what failed first.
                    raise stop.why from None
                raise
        return [replies[key] for key in keys]

    def most_usd(self, questions: int, characters: int) -> float:
        """Return the most that so many questions of so many characters each could cost."""
        return questions * self.ledger.most_usd(characters)

    def _reply(self, key: str, question: list[Message], stop: _StopEvent) -> JudgeReply:
        known = self.ledger.known(key)
        if known is not None:
            return known
        reserved = self.ledger.reserve(characters(question))
        reply: JudgeReply | None = None
        try:
            reply = self._called(question, stop)
        finally:
            self.ledger.settle(reserved, key, reply)
        return reply

    def _called(self, question: list[Message], stop: _StopEvent) -> JudgeReply:
        for attempt in range(self._section.retries + 1):
            if stop.is_set():
                break
            self._pace.wait()
            try:
                return self._call(self._client, question)
            except (httpx2.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
                self._refused(error, stop)
                fault = error
                if attempt < self._section.retries:
                    stop.wait(_wait_s(error, attempt))
        else:
            raise stop.because(
                RunError(
                    f"{self._named} does not answer ({_said(fault)}) after "
                    f"{self._section.retries + 1} calls. Every reply so far is kept: when it "
                    f"answers again, the same command goes on"
                )
            ) from fault
        raise stop.why or RunError(f"{self._named} is no longer asked")

    def _refused(self, error: Exception, stop: _StopEvent) -> None:
        """Raise at once where the same call would fail again."""
        response = getattr(error, "response", None)
        if response is None or response.status_code in _REPEATED:
            return
        hint = {
            401: "Its key is missing or wrong",
            403: "Its key may not use this model",
            404: "There is no such address or model",
        }.get(response.status_code, "Its answer says why")
        raise stop.because(
            RunError(f"{self._named} refuses the call ({_said(error)}). {hint}")
        ) from error


def kept_in(place: JudgeContext) -> Path:
    """Return where replies are kept: the cache, or the run folder where that cannot be written."""
    try:
        found = place.cache / "replies"
        found.mkdir(parents=True, exist_ok=True)
        return found if os.access(found, os.W_OK) else place.folder / "replies"
    except OSError:
        return place.folder / "replies"


def _said(error: Exception) -> str:
    response = getattr(error, "response", None)
    if isinstance(error, UnreadableError):
        return str(error)
    if response is None:
        return f"{type(error).__name__}: {error}"
    return f"HTTP {response.status_code}: {' '.join(response.text[:200].split())}"


def _wait_s(error: Exception, attempt: int) -> float:
    """Return how long to wait: as long as the endpoint says, else twice as long each time."""
    response = getattr(error, "response", None)
    told = response.headers.get("retry-after", "") if response is not None else ""
    if told.replace(".", "", 1).isdigit():
        return min(float(told), _LONGEST_WAIT_S)
    # Not all at the same moment.
    return min(_FIRST_WAIT_S * 2**attempt * random.uniform(0.75, 1.25), _LONGEST_WAIT_S)


def key_from(variable: str, place: JudgeContext) -> str:
    """Return the key that an environment variable holds.

    Raises:
        RunError: It holds none.
    """
    key = os.environ.get(variable, "")
    if not key:
        raise RunError(
            f"the environment variable {variable} is not set; it should hold the "
            f"{place.called}'s key"
        )
    return key
