"""Personal data: it does not leave, it comes back in the answer, and nothing else keeps it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client import (
    ChatAnswer,
    Client,
    ClientSettings,
    EmfMetrics,
    GuardrailBlockedError,
    GuardrailVerdict,
    MaskingError,
    OpenAiEndpoint,
    PersonalDataMask,
    RequestRefusedError,
    ResponseCache,
    RetryPolicy,
    StreamInterruptedError,
)
from client.chat import ChatCall
from client.masking import MaskedCall, StreamUnmasker
from tests.unit.client.fault_server import FaultServer, Planned

EMAIL, CARD, NAME = "maria.lopez@example.org", "4111 1111 1111 1111", "Maria Lopez"
VALUES = (EMAIL, CARD, NAME, "Lopez")
MESSAGES = [
    {"role": "system", "content": "You answer for a shop."},
    {"role": "user", "content": f"My name is {NAME}, my e-mail is {EMAIL}. My card: {CARD}."},
]


@pytest.fixture(scope="module")
def mask() -> PersonalDataMask:
    return PersonalDataMask()


def test_values_stay_here_and_come_back(server: FaultServer, mask: PersonalDataMask) -> None:
    server.default = Planned(text="Dear [PERSON_1], we wrote to [EMAIL_1] about [CARD_1]. [X_1]")
    wanted = f"Dear {NAME}, we wrote to {EMAIL} about {CARD}. [X_1]"
    with Client(OpenAiEndpoint(server.url, "tiny"), ClientSettings(mask=mask)) as client:
        assert client.chat(MESSAGES).text == wanted
        # The parts of a stream cut placeholders after every third character.
        parts = [part.text for part in client.stream(MESSAGES)]
    assert "".join(parts) == wanted
    assert len(parts) > 10
    sent = server.requests[0].body["messages"][1]["content"]
    assert sent == "My name is [PERSON_1], my e-mail is [EMAIL_1]. My card: [CARD_1]."
    assert all(value.encode() not in r.raw for r in server.requests for value in VALUES)


def test_tool_calls_and_names_are_masked_and_unmasked(
    server: FaultServer, mask: PersonalDataMask
) -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "find", "arguments": f'{{"to": "{EMAIL}"}}'},
    }
    messages: list[Any] = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": f"Account of {NAME}"},
    ]
    reply = {**call, "function": {"name": "send", "arguments": '{"to": "[EMAIL_1]"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [reply]}
    server.default = Planned(
        body={"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {}}
    )
    with Client(OpenAiEndpoint(server.url, "tiny"), ClientSettings(mask=mask)) as client:
        answer = client.chat(messages)
    sent = server.requests[0].body["messages"]
    assert sent[2]["tool_calls"][0]["function"]["arguments"] == '{"to":"[EMAIL_1]"}'
    assert sent[3]["content"] == "Account of [PERSON_1]"
    assert answer.tool_calls[0]["function"]["arguments"] == f'{{"to": "{EMAIL}"}}'


def test_a_placeholder_that_the_user_wrote_is_not_a_value(
    server: FaultServer, mask: PersonalDataMask
) -> None:
    server.default = Planned(text="[EMAIL_1] and [EMAIL_2]")
    messages = [{"role": "user", "content": f"Explain [EMAIL_1]. Mine is {EMAIL}."}]
    with Client(OpenAiEndpoint(server.url, "tiny"), ClientSettings(mask=mask)) as client:
        assert client.chat(messages).text == f"[EMAIL_1] and {EMAIL}"


def test_what_cannot_be_masked_is_not_sent(server: FaultServer, mask: PersonalDataMask) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": f"I am {NAME}"}]}]
    with (
        Client(OpenAiEndpoint(server.url, "tiny"), ClientSettings(mask=mask)) as client,
        pytest.raises(MaskingError, match=r"messages\[0\].content is a list of parts"),
    ):
        client.chat(messages)
    assert not server.requests
    with pytest.raises(MaskingError, match=r"kinds\.1"):
        PersonalDataMask(kinds=["email", "shoe_size"])


def test_kinds_and_exceptions(mask: PersonalDataMask) -> None:
    def masked(of: PersonalDataMask) -> str:
        return str(of.mask(ChatCall(MESSAGES)).call.messages[1]["content"])

    assert masked(PersonalDataMask(kinds=["email"])) == (
        f"My name is {NAME}, my e-mail is [EMAIL_1]. My card: {CARD}."
    )
    assert NAME in masked(PersonalDataMask(never=["maria lopez"]))


@pytest.mark.parametrize("size", range(1, 14))
def test_placeholders_cut_anywhere_are_replaced(size: int) -> None:
    masked = MaskedCall(ChatCall(()), {"[PERSON_1]": "Ann", "[EMAIL_12]": "a@b.org"})
    text = "x [PERSON_1]'s [list] [EMAIL_12][PERSON_1] [PERSON_3] [a very long remark, not closed"
    unmasker = StreamUnmasker(masked)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    streamed = "".join([*(unmasker.feed(part) for part in parts), unmasker.finish()])
    assert streamed == masked.unmask(text)


class Spy:
    """Guardrail that keeps what it sees."""

    def __init__(self, answer: GuardrailVerdict) -> None:
        self.seen: list[str] = []
        self.answer = answer

    def check_prompt(self, call: ChatCall) -> GuardrailVerdict:
        self.seen += [str(message["content"]) for message in call.messages]
        return GuardrailVerdict()

    async def check_answer(self, call: ChatCall, text: str) -> GuardrailVerdict:
        self.seen.append(text)
        return self.answer


@pytest.fixture
def all_logs() -> Iterator[io.StringIO]:
    """All log records at the level DEBUG, of every library, with their tracebacks."""
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def test_nothing_keeps_what_was_masked(
    server: FaultServer,
    other: FaultServer,
    mask: PersonalDataMask,
    all_logs: io.StringIO,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emf, spy = io.StringIO(), Spy(GuardrailVerdict())
    settings = ClientSettings(
        mask=mask,
        breaker=None,
        retry=RetryPolicy(max_retries=1, base_s=0.01),
        cache=ResponseCache(tmp_path / "answers.sqlite"),
        guardrails=[spy],
        metrics=EmfMetrics(stream=emf),
    )
    endpoints = [OpenAiEndpoint(server.url, "big"), OpenAiEndpoint(other.url, "small")]
    errors: list[Exception] = []
    with Client(endpoints, settings) as client:
        server.default = Planned(text="To [EMAIL_1] of [PERSON_1]")
        answers = [client.chat(MESSAGES, temperature=0) for _ in range(2)]
        list(client.stream(MESSAGES, seed=2))
        # Both services quote the prompt in their errors.
        quote = {"error": {"message": "bad prompt: "}}
        for status in (503, 400):
            for one in (server, other):
                text = one.requests[-1].raw.decode() if one.requests else str(MESSAGES[0])
                body = {"error": {"message": quote["error"]["message"] + text}}
                one.default = Planned(status=status, body=body)
            for work in (client.chat, lambda *a, **k: list(client.stream(*a, **k))):
                with pytest.raises(Exception, match="bad prompt") as caught:
                    work(MESSAGES, seed=status)
                errors.append(caught.value)
        server.default = Planned(text="[EMAIL_1] is long", cut_after=5)
        with pytest.raises(StreamInterruptedError) as interrupted:
            list(client.stream(MESSAGES, seed=9))
        errors.append(interrupted.value)
        spy.answer = GuardrailVerdict(False, "rule 7")
        server.default = Planned(text="[EMAIL_1]!")
        with pytest.raises(GuardrailBlockedError, match="Spy refused the answer: rule") as refused:
            client.chat(MESSAGES, seed=10)
        errors.append(refused.value)
    assert answers[1].from_cache
    assert all(answer.text == f"To {EMAIL} of {NAME}" for answer in answers)
    assert any(isinstance(error, RequestRefusedError) for error in errors)
    output = capsys.readouterr()
    kept = {
        "sent": b"".join(r.raw for r in (*server.requests, *other.requests)).decode(),
        "logs": all_logs.getvalue(),
        "metrics": emf.getvalue(),
        "cache": (tmp_path / "answers.sqlite").read_bytes().decode(errors="replace"),
        "guardrail": "\n".join(spy.seen),
        "errors": "\n".join(_whole_text(error) for error in errors),
        "reprs": repr([*answers, mask.mask(ChatCall(MESSAGES)), ChatCall(MESSAGES)]),
        "output": output.out + output.err,
    }
    for place in ("sent", "cache", "guardrail", "errors"):
        assert "[EMAIL_1]" in kept[place], place
    assert "503" in kept["logs"]
    for place, text in kept.items():
        for value in VALUES:
            assert value not in text, (place, value)
    assert (tmp_path / "answers.sqlite").stat().st_mode & 0o077 == 0


def _whole_text(error: BaseException | None) -> str:
    """Return all that an error and those behind it say, and the values of their attributes."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def test_an_answer_that_a_guardrail_changes(server: FaultServer) -> None:
    spy = Spy(GuardrailVerdict(text="changed"))
    with Client(OpenAiEndpoint(server.url, "tiny"), ClientSettings(guardrails=[spy])) as client:
        answer: ChatAnswer = client.chat(MESSAGES)
        parts = list(client.stream(MESSAGES))
    assert answer.text == "changed"
    assert [part.text for part in parts] == ["changed"]
