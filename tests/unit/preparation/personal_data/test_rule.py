"""Rule of the step `personal_data`: all texts of a row together, and what takes a value's place."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from stdnum import iban, luhn

from preparation.recognizer.kinds import KINDS
from preparation.recognizer.recognizer import Recognizer
from preparation.rows import PreparedRow
from preparation.steps.personal_data import PersonalDataStep
from preparation.steps.personal_data.rule import PersonalDataRule
from preparation.steps.step import Examination


@cache
def recognizer() -> Recognizer:
    return Recognizer()


def rule(**settings: Any) -> PersonalDataRule:
    return PersonalDataRule(PersonalDataStep(step="personal_data", **settings), recognizer())


def text_row(text: str, id: str = "a.jsonl:1") -> PreparedRow:
    return PreparedRow(id, "a", "text", {"text": text})


CONVERSATION = PreparedRow(
    "chats.jsonl:7",
    "chats",
    "messages",
    {
        "messages": [
            {
                "role": "user",
                "content": "Hello, my name is Henrietta Lindqvist. Is my order there?",
            },
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {
                            "name": "find_order",
                            "arguments": '{"customer": "Henrietta Lindqvist", "mail": '
                            '"h.l@example.org", "limit": 3}',
                        },
                    }
                ],
            },
            {"role": "tool", "content": "No order of HENRIETTA LINDQVIST."},
            {"role": "assistant", "content": "Sorry, Henrietta, there is none. Ms Lindqvist?"},
        ]
    },
)


def replaced(row: PreparedRow, **settings: Any) -> PreparedRow:
    examination = rule(action="replace", **settings).examine(row)
    assert examination.texts is not None
    return row.with_texts(examination.texts)


def test_a_name_has_one_placeholder_in_every_turn_and_tool_arguments_still_parse() -> None:
    messages = replaced(CONVERSATION).columns["messages"]
    assert messages[0]["content"] == "Hello, my name is [PERSON_1]. Is my order there?"
    arguments = json.loads(messages[1]["tool_calls"][0]["function"]["arguments"])
    assert arguments == {"customer": "[PERSON_1]", "mail": "[EMAIL_1]", "limit": 3}
    assert messages[2]["content"] == "No order of [PERSON_1]."
    assert messages[3]["content"].startswith("Sorry, [PERSON_1], there is none.")
    assert "indqvist" not in json.dumps(messages)


def test_several_rows_at_once_give_what_each_gives_alone() -> None:
    rows = [CONVERSATION, text_row("Call John Smith at (212) 555-0142."), text_row("No one here.")]
    one = rule()
    assert one.examine_all(rows) == [one.examine(row) for row in rows]
    assert one.examine_all(rows[::-1]) == [one.examine(row) for row in rows[::-1]]


def test_findings_give_kind_and_place_and_no_value() -> None:
    text = "Mail john.smith@example.com or pay to DE89 3704 0044 0532 0130 00."
    examination = rule().examine(text_row(text))
    assert [(f.kind, text[f.start : f.end]) for f in examination.findings] == [
        ("email", "john.smith@example.com"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
    ]
    assert examination.tags == {"personal_data": "email 1, iban 1"}
    assert examination.texts is None and not examination.reasons


def test_drop_rejects_rows_with_personal_data_alone() -> None:
    drop = rule(action="drop")
    assert drop.examine(text_row("SSN: 536-90-4399")).reasons == ("personal_data",)
    assert drop.examine(text_row("The sky is blue.")) == Examination()


def test_surrogates_keep_shape_and_checksums_and_hide_the_value() -> None:
    text = (
        "Card 4111 1111 1111 1111, IBAN GB82 WEST 1234 5698 7654 32, mail A.B@example.com, "
        "(212) 555-0142"
    )
    result = str(replaced(text_row(text), replace="surrogates").columns["text"])
    card, account = (
        result.split("Card ")[1].split(", IBAN ")[0],
        result.split("IBAN ")[1].split(", mail")[0],
    )
    assert luhn.is_valid(card.replace(" ", "")) and len(card) == 19 and card.count(" ") == 3
    assert iban.is_valid(account, check_country=False) and account.startswith("GB")
    for value in ("4111 1111 1111 1111", "1234 5698", "A.B@", "555-0142"):
        assert value not in result


def test_surrogates_agree_across_rows_with_a_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text_row(f"{lead} anna.k@example.com", f"f:{i}") for i, lead in enumerate("abcd")]

    def mails(**settings: Any) -> list[str]:
        one = rule(action="replace", replace="surrogates", **settings)
        examinations = one.examine_all(texts)
        return [str(examination.texts)[4:] for examination in examinations]

    monkeypatch.setenv("PERSONAL_DATA_KEY", "k" * 32)
    first = mails(key_env="PERSONAL_DATA_KEY")
    assert len(set(first)) == 1 and "anna" not in first[0]
    monkeypatch.setenv("PERSONAL_DATA_KEY", "q" * 32)
    assert mails(key_env="PERSONAL_DATA_KEY") != first
    assert len(set(mails())) == len(texts)
    assert mails() == mails()


def test_kinds_and_values_that_are_not_wanted_stay() -> None:
    text = text_row("Write to info@example.com or to jane@example.com, server 198.51.100.7.")
    found = rule(kinds=("email",), never=("INFO@example.com",)).examine(text).findings
    assert [finding.kind for finding in found] == ["email"]
    assert found[0].start == 32


def test_settings_without_effect_and_a_missing_key_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)

    def problems(**settings: Any) -> list[str]:
        step = PersonalDataStep(step="personal_data", **settings)
        return [str(problem) for problem in step.problems("prepare.steps.2")]

    assert problems() == []
    assert problems(action="replace", replace="surrogates") == []
    both = problems(replace="surrogates", key_env="NO_KEY")
    assert [text.split(":")[0] for text in both] == [
        "prepare.steps.2.replace",
        "prepare.steps.2.key_env",
    ]
    (missing,) = problems(action="replace", replace="surrogates", key_env="NO_KEY")
    assert "is not set" in missing and "at least 16 characters" in missing
    monkeypatch.setenv("NO_KEY", "short")
    (short,) = problems(action="replace", replace="surrogates", key_env="NO_KEY")
    assert "is too short" in short and "short;" not in short.replace("too short;", "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_surrogate(kind: Any) -> None:
    from faker import Faker

    from preparation.steps.personal_data.replacement import Surrogates

    values = {"iban": "GB82WEST12345698765432", "card": "4111111111111111", "date": "2.3.1980"}
    value = values.get(kind, "Ab 12-34")
    made = Surrogates(Faker("en_US"), "row", None).replacement(kind, value)
    assert made and made != value
