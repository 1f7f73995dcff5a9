"""Guardrails: what may be asked, and what may be answered."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import quote

import httpx2

from account.bedrock_auth import bedrock_auth
from account.errors import AccountError
from client.chat import ChatCall
from client.endpoints.aws_access import aws_address
from client.endpoints.http_errors import endpoint_error
from client.errors import AccessRefusedError, GuardrailBlockedError, UnavailableError

Source = Literal["prompt", "answer"]


@dataclass(frozen=True, slots=True)
class GuardrailVerdict:
    """Verdict of a guardrail.

    Attributes:
        allowed: Whether the call may continue.
        reason: Why not; it must not quote the text.
        text: Text in place of the answer, such as with words masked; None leaves it.
    """

    allowed: bool = True
    reason: str = ""
    text: str | None = field(default=None, repr=False)


class GuardrailHook(Protocol):
    """Guardrail that examines texts; both methods may also be coroutines.

    Texts are as they leave the process: masked, if the client masks.
    """

    def check_prompt(self, call: ChatCall) -> GuardrailVerdict | Awaitable[GuardrailVerdict]:
        """Return the verdict on a prompt."""

    def check_answer(
        self, call: ChatCall, text: str
    ) -> GuardrailVerdict | Awaitable[GuardrailVerdict]:
        """Return the verdict on an answer."""


async def check_prompt(guardrails: Sequence[GuardrailHook], call: ChatCall) -> None:
    """Examine a prompt by each guardrail.

    Raises:
        GuardrailBlockedError: One refuses it.
    """
    for guardrail in guardrails:
        _raise_if_blocked(guardrail, "prompt", await _verdict(guardrail.check_prompt, call))


async def check_answer(guardrails: Sequence[GuardrailHook], call: ChatCall, text: str) -> str:
    """Return an answer as the guardrails let it pass.

    Args:
        guardrails: The guardrails, of which each examines what the one before let pass.
        call: The call.
        text: The answer.

    Raises:
        GuardrailBlockedError: One refuses it.
    """
    for guardrail in guardrails:
        verdict = await _verdict(guardrail.check_answer, call, text)
        _raise_if_blocked(guardrail, "answer", verdict)
        text = text if verdict.text is None else verdict.text
    return text


async def _verdict(check: Any, *arguments: Any) -> GuardrailVerdict:
    # A check that is no coroutine may block, and must not hold up the other calls.
    verdict = await (
        check(*arguments)
        if inspect.iscoroutinefunction(check)
        else asyncio.to_thread(check, *arguments)
    )
    if inspect.isawaitable(verdict):
        verdict = await verdict
    if not isinstance(verdict, GuardrailVerdict):
        raise TypeError(f"a guardrail returns a GuardrailVerdict, not {type(verdict).__name__}")
    return verdict


def _raise_if_blocked(guardrail: GuardrailHook, source: str, verdict: GuardrailVerdict) -> None:
    if not verdict.allowed:
        reason = f": {verdict.reason}" if verdict.reason else ""
        name = type(guardrail).__name__
        raise GuardrailBlockedError(f"{name} refused the {source}{reason}", source)


class BedrockGuardrail:
    """Guardrail of Amazon Bedrock, applied to calls of any endpoint.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ApplyGuardrail.html

    Args:
        identifier: Id or ARN.
        version: Version, or `DRAFT`.
        region: Region; that of the environment or the profile if it is left out.
        timeout_s: Limit of an examination.

    Raises:
        InvalidArgumentError: The Region is not known.
    """

    def __init__(
        self,
        identifier: str,
        version: str,
        *,
        region: str | None = None,
        timeout_s: float = 10.0,
    ):
        base, self._region = aws_address("bedrock-runtime", region)
        path = f"guardrail/{quote(identifier, safe='')}/version/{quote(version, safe='')}/apply"
        self._address, self._timeout_s = f"{base}/{path}", timeout_s

    async def check_prompt(self, call: ChatCall) -> GuardrailVerdict:
        """Return the verdict on the last message, which is new in a conversation."""
        return await self._apply("INPUT", str(call.messages[-1].get("content") or ""))

    async def check_answer(self, call: ChatCall, text: str) -> GuardrailVerdict:
        """Return the verdict on an answer."""
        return await self._apply("OUTPUT", text)

    async def _apply(self, source: str, text: str) -> GuardrailVerdict:
        """Return the verdict on a text.

        The call does not continue without it.

        Raises:
            AccessRefusedError: There are no usable credentials.
            UnavailableError: The guardrail cannot be asked.
        """
        if not text:
            return GuardrailVerdict()
        body = {"source": source, "content": [{"text": {"text": text}}]}
        try:
            auth = bedrock_auth(self._region)
            async with httpx2.AsyncClient(timeout=self._timeout_s) as http:
                response = await http.post(self._address, json=body, auth=auth)
        except AccountError as error:
            raise AccessRefusedError(f"the guardrail cannot be asked: {error}") from None
        except httpx2.HTTPError as error:
            raise UnavailableError(
                f"the guardrail cannot be reached ({type(error).__name__})"
            ) from None
        if response.status_code != httpx2.codes.OK:
            failure = endpoint_error("the guardrail", response)
            raise failure
        return _bedrock_verdict(response.json(), source)


def _bedrock_verdict(body: dict[str, Any], source: str) -> GuardrailVerdict:
    """Return the verdict in a response; an answer that was only masked passes as masked.

    A prompt in which something would be masked is refused: it must not leave as it is.
    """
    if body.get("action") != "GUARDRAIL_INTERVENED":
        return GuardrailVerdict()
    reason = str(body.get("actionReason") or "the guardrail intervened")
    actions = set(_actions(body.get("assessments")))
    if source == "OUTPUT" and actions and "BLOCKED" not in actions:
        outputs = body.get("outputs") or ()
        return GuardrailVerdict(text="".join(str(output.get("text", "")) for output in outputs))
    return GuardrailVerdict(False, reason)


def _actions(assessments: Any) -> Iterator[str]:
    """Yield the actions of all filters in the assessments, wherever they are nested."""
    if isinstance(assessments, dict):
        if isinstance(assessments.get("action"), str):
            yield assessments["action"]
        for value in assessments.values():
            yield from _actions(value)
    elif isinstance(assessments, list):
        for value in assessments:
            yield from _actions(value)
