"""Language identification: accuracy, texts that detectors refuse, and the filter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.prepare.language import accuracy, is_for_choosing, labelled_texts
from benchmarks.training_runs import DATA
from preparation.rows import PreparedRow
from preparation.steps.language import codes
from preparation.steps.language.identification import LanguageIdentifier
from preparation.steps.language.section import LanguageStep
from preparation.steps.step import Examination, Rule

SENTENCES = {
    "en": "The meeting was moved to Thursday because the hall is closed.",
    "de": "Die Besprechung wurde auf Donnerstag verlegt, weil der Saal geschlossen ist.",
    "fr": "La réunion a été reportée à jeudi parce que la salle est fermée.",
    "es": "La reunión se aplazó hasta el jueves porque la sala está cerrada.",
    "pt": "A reunião foi adiada para quinta-feira porque a sala está fechada.",
    "nl": "De vergadering is naar donderdag verplaatst omdat de zaal gesloten is.",
    "pl": "Spotkanie przeniesiono na czwartek, ponieważ sala jest zamknięta.",
    "tr": "Salon kapalı olduğu için toplantı perşembe gününe ertelendi.",
    "ru": "Встречу перенесли на четверг, потому что зал закрыт.",
    "ja": "会場が閉まっているため、会議は木曜日に延期されました。",
    "zh": "由于会场关闭,会议推迟到星期四举行,请大家互相转告。",
    "ko": "회의장이 닫혀서 회의가 목요일로 연기되었습니다.",
    "ar": "تأجل الاجتماع إلى يوم الخميس لأن القاعة مغلقة.",
    "hi": "सभागार बंद होने के कारण बैठक गुरुवार तक टाल दी गई।",
}


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    return LanguageIdentifier()


def _rule(**settings: Any) -> Rule:
    rule = LanguageStep(step="language", **settings).build()
    assert isinstance(rule, Rule)
    return rule


def _text(text: str) -> PreparedRow:
    return PreparedRow("a:1", "a", "text", {"text": text})


def _chat(*contents: str) -> PreparedRow:
    roles = ("user", "assistant")
    messages = [
        {"role": roles[index % 2], "content": content} for index, content in enumerate(contents)
    ]
    return PreparedRow("a:1", "a", "messages", {"messages": messages})


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_identified(identifier: LanguageIdentifier, language: str) -> None:
    assert identifier.identify(SENTENCES[language]).language == language


def test_english_names_do_not_make_a_question_english(identifier: LanguageIdentifier) -> None:
    # CLD2 alone answers "en", and says that it is reliable.
    question = "¿Cuántos puntos anotaron los Chicago Bulls contra los Boston Celtics?"
    assert identifier.identify(question).language == "es"
    assert identifier._ask_cld2("¿Cuántos Grammys ha ganado Lady Gaga?")[0].language == "en"
    assert identifier.identify("¿Cuántos Grammys ha ganado Lady Gaga?").language == "es"


def test_fasttext_does_not_overrule_in_a_language_it_lacks(identifier: LanguageIdentifier) -> None:
    zulu = "Wonke umuntu unelungelo lokuphila, inkululeko nokuphepha."
    assert identifier._ask_fasttext(zulu).language != "zu"
    assert identifier.identify(zulu).language == "zu"


@pytest.mark.parametrize(
    "character", ["\x00", "\x0b", "\x7f", "\x85", "\ud800", "\ufdd0", "\uffff"]
)
def test_characters_that_utf8_or_cld2_refuse(
    identifier: LanguageIdentifier, character: str
) -> None:
    text = SENTENCES["de"].replace(" ", f" {character}", 1)
    assert identifier.identify(text).language == "de"


def test_text_after_a_less_than_sign_counts(identifier: LanguageIdentifier) -> None:
    assert identifier.identify("if a < b: " + SENTENCES["de"]).language == "de"


@pytest.mark.parametrize("text", ["", "12 345 678 + 90 = 0", "{}[]();:!? " * 5])
def test_a_text_without_words_is_undetermined(identifier: LanguageIdentifier, text: str) -> None:
    assert identifier.identify(text).language == "und"


def test_codes_are_those_of_the_detectors(identifier: LanguageIdentifier) -> None:
    import pycld2

    labels, _ = identifier._fasttext.predict("hello world", k=1000, threshold=-1)
    assert {label.removeprefix("__label__") for label in labels} == codes.FASTTEXT_LANGUAGES
    by_name = {name: codes.CLD2_SPELLINGS.get(code, code) for name, code in pycld2.LANGUAGES}
    detected = {by_name[name] for name in pycld2.DETECTED_LANGUAGES}
    invented = ("xx", "zz")  # scripts without a language, and jokes
    assert {code for code in detected if not code.startswith(invented)} == codes.CLD2_LANGUAGES


@pytest.mark.skipif(not Path(DATA).is_dir(), reason=f"{DATA} does not exist")
def test_accuracy_on_texts_that_were_not_used_to_choose(identifier: LanguageIdentifier) -> None:
    texts = [one for one in labelled_texts(DATA) if not is_for_choosing(one.text)]
    result = accuracy(texts, identifier.identify)
    lowest = min(value for name, value in result.items() if name.startswith("language"))
    assert (result["long"] >= 0.985, result["short"] >= 0.98, lowest >= 0.9) == (True,) * 3, result


def test_rows_in_other_languages_are_rejected() -> None:
    rule = _rule(keep=("en", "de"), action="drop")
    reasons = {name: rule.examine(_text(text)).reasons for name, text in SENTENCES.items()}
    assert {name for name, reason in reasons.items() if not reason} == {"en", "de"}
    assert reasons["fr"] == ("other_language",)


def test_short_and_undetermined_texts_are_kept() -> None:
    rule = _rule(keep=("en",), action="drop")
    for text in ("Ça va très bien", "1234 5678 90 1234 5678 90"):
        assert rule.examine(_text(text)) == Examination(
            tags={"language": "und", "language_score": 0.0}
        )


def test_a_conversation_is_judged_by_all_turns_and_tells_when_sides_differ() -> None:
    tags = _rule().examine(_chat(SENTENCES["en"], SENTENCES["en"])).tags
    assert tags["language"] == "en"
    assert "language_answer" not in tags
    mixed = _rule().examine(_chat(SENTENCES["en"], SENTENCES["ja"] * 3)).tags
    assert (mixed["language_prompt"], mixed["language_answer"]) == ("en", "ja")


def test_results_of_tools_do_not_change_the_language() -> None:
    row = _chat(SENTENCES["de"], SENTENCES["de"])
    row.columns["messages"].append({"role": "tool", "content": SENTENCES["ja"] * 9})
    assert _rule().examine(row).tags["language"] == "de"


def test_unknown_codes_are_problems_with_the_closest_ones() -> None:
    step = LanguageStep(step="language", keep=("en", "eng", "pt-BR", "deutsch"))
    problems = list(step.problems("prepare.steps.0"))
    assert [problem.value for problem in problems] == ["eng", "pt-BR", "deutsch"]
    assert [problem.fix.split(",")[0] for problem in problems] == [
        "Closest: en", "Closest: pt", "Closest: de"
    ]  # fmt: skip
    assert {problem.path for problem in problems} == {"prepare.steps.0.keep"}


def test_drop_without_languages_is_a_problem() -> None:
    (problem,) = LanguageStep(step="language", action="drop").problems("prepare.steps.0")
    assert "required" in problem.message
