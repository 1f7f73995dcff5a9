"""Quality rules: datatrove's decisions for web text, and each rule for answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from datatrove.utils.text import PUNCTUATION_SET

from benchmarks.prepare.quality import FILTERS, decisions, documents, long_answers, truncation
from benchmarks.training_runs import DATA
from preparation.rows import PreparedRow
from preparation.steps.quality.c4_quality import C4Filter
from preparation.steps.quality.gopher_quality import QualityFilter
from preparation.steps.quality.gopher_repetition import RepetitionFilter
from preparation.steps.quality.section import QualityStep
from preparation.steps.quality.word_splitter import WORDS, WordSplitter
from preparation.steps.step import Examination, Rule

PROSE = (
    "The river had risen in the night, and nobody could say when the ferry would run again. "
    "Anna waited at the landing with her two bags. She had told her brother that she would be "
    "home before the snow, and that the letters could stay with the neighbours until then. "
    "A boy came down the path with a lantern. He said the boats were all on the other side. "
    "There was bread to be had at the inn, if she did not mind the noise of the millers. "
)
ANSWER = (
    "Boil the water first, then add the rice and a pinch of salt, and let it simmer on a low heat "
    "for about twelve minutes before you drain it and serve it with the vegetables."
)


def _rule(*rules: Any, **settings: Any) -> Rule:
    rule = QualityStep(step="quality", rules=rules, **settings).build()
    assert isinstance(rule, Rule)
    return rule


@pytest.fixture(scope="module")
def web() -> Rule:
    return _rule("gopher", "c4", "fineweb")


@pytest.fixture(scope="module")
def answers() -> Rule:
    return _rule("answers")


def _text(text: str) -> PreparedRow:
    return PreparedRow("a:1", "a", "text", {"text": text})


def _pair(answer: str, prompt: str = "How do I cook rice?") -> PreparedRow:
    columns = {"prompt": prompt, "completion": answer}
    return PreparedRow("a:1", "a", "prompt_completion", columns)


def test_words_and_sentences_of_the_splitter() -> None:
    splitter = WordSplitter()
    assert splitter.word_tokenize("It's 3.5 kg... (U.S. price) – 学校!") == [
        "It", "'s", "3.5", "kg", "...", "(", "U.S", ".", "price", ")", "–", "学校", "!"
    ]  # fmt: skip
    text = 'He said "No." Then he left! 终わり。'
    assert splitter.sent_tokenize(text) == ['He said "No." ', "Then he left! ", "终わり。"]
    assert "".join(splitter.sent_tokenize(text)) == text
    assert splitter.sent_tokenize("") == [""]


def test_prose_passes_all_web_rules(web: Rule) -> None:
    assert web.examine(_text(PROSE.replace(". ", ".\n"))) == Examination()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("too short a text", "gopher_short_doc"),
        ("- " + PROSE.replace(". ", ".\n- "), "gopher_too_many_bullets"),
        (PROSE.replace(" ", " # "), "gopher_too_many_hashes"),
        (PROSE * 3, "gopher_duplicated_5_n_grams"),
        ((PROSE + "\n") * 3, "gopher_dup_line_frac"),
        (PROSE.replace("river", "{river}"), "c4_curly_bracket"),
        (PROSE + "\nLorem ipsum dolor sit amet.", "c4_lorem_ipsum"),
        ("buy.\nnow.\n" * 40, "fineweb_short_line_ratio"),
        (PROSE.replace(".", ""), "fineweb_line_punct_ratio"),
        ("", "gopher_short_doc"),
        ("\n\n\n", "fineweb_empty"),
    ],
)
def test_reasons_of_web_rules(web: Rule, text: str, reason: str) -> None:
    reasons = web.examine(_text(text)).reasons
    assert any(given.startswith(reason.rsplit("_frac", 1)[0]) for given in reasons), reasons


def test_text_in_another_language_is_not_judged_by_english_thresholds(web: Rule) -> None:
    row = _text("Der Fluss war gestiegen.").with_tags({"language": "de"})
    assert web.examine(row) == Examination(tags={"web_rules": "not English"})
    assert web.examine(row.with_tags({"language": "en"})).reasons


FAST_FILTERS: dict[str, Any] = {
    "Gopher quality": QualityFilter,
    "Gopher repetition": RepetitionFilter,
    "C4": C4Filter,
}


def _made_up_texts() -> list[str]:
    words = PROSE.split()
    repetitive = [
        " ".join([*words[:cut], *(words[:length] * copies), *words[cut:]])
        for cut in (0, 20, 60)
        for length in (1, 2, 3, 5, 8, 13)
        for copies in (1, 2, 4, 9, 20)
    ]
    signs = [
        PROSE.replace(" ", f" {sign} ", count)
        for sign in ("#", "...", "…", "12", "１", "\n-", "\n•", "_", "a1", "…\n", "x" * 1001)
        for count in (5, 9, 20, 40, 80)
    ]
    marks = ["[1]", "{", "lorem ipsum", "Lorem[2] ipsum", "JavaScript", "cookie policy", "x" * 1001]
    lines = PROSE.replace(". ", ".\n")
    marked = [lines.replace("snow", mark, 1) for mark in marks]
    rng = random.Random(0)
    alphabet = "ab1_.@/=-'\n\x1c #…s{[é,!?x "
    noise = ["".join(rng.choices(alphabet, k=rng.randrange(1, 400))) for _ in range(200)]
    edge = ["a", "a b c d", "a a a a a", PROSE, lines, PROSE.lower() * 2]
    return [*repetitive, *signs, *marked, *noise, *edge]


@pytest.mark.parametrize("name", FAST_FILTERS)
def test_decides_as_datatrove_on_made_up_texts(name: str) -> None:
    _assert_same_decisions(name, [text for text in _made_up_texts() if WORDS.search(text)])


@pytest.mark.skipif(not Path(DATA).is_dir(), reason=f"{DATA} does not exist")
@pytest.mark.parametrize("name", FAST_FILTERS)
def test_decides_as_datatrove_on_documents(name: str) -> None:
    texts = documents(Path(DATA)) if name != "Gopher repetition" else long_answers(DATA)[:200]
    assert name == "Gopher repetition" or len(texts) > 1000
    _assert_same_decisions(name, texts)


def _assert_same_decisions(name: str, texts: list[str]) -> None:
    expected = decisions(FILTERS[name], WordSplitter(), texts)
    assert len({str(decision) for decision in expected}) > 1, "no rule rejects a text"
    assert decisions(FAST_FILTERS[name], WordSplitter(), texts) == expected


def test_words_in_ascii_are_those_of_the_general_pattern() -> None:
    texts = [text for text in _made_up_texts() if text.isascii()]
    for code in range(128):
        sign = chr(code)
        texts += [sign, f"a{sign}b", f"a{sign}{sign}b", f"'{sign}s", f"it's{sign}"]
    splitter = WordSplitter()
    for text in texts:
        assert splitter.word_tokenize(text) == WORDS.findall(text), repr(text)


def test_no_sign_is_a_letter() -> None:
    assert not any(sign.isalpha() for sign in PUNCTUATION_SET)


@pytest.mark.skipif(not Path(DATA).is_dir(), reason=f"{DATA} does not exist")
def test_truncated_answers_are_found() -> None:
    texts = long_answers(DATA)
    found, wrong = truncation(texts[len(texts) // 2 :])
    assert (found > 0.8, wrong < 0.05) == (True, True), (found, wrong)


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (ANSWER, ()),
        (" \n", ("answer_is_empty",)),
        ("Sure.", ("answer_has_too_few_words",)),
        ("学校です", ()),
        ("How do I cook rice", ("answer_is_the_prompt",)),
        ("I’m sorry, but I can’t help with that.", ("answer_is_a_refusal",)),
        (ANSWER + " As an AI language model, I need no rice.", ("answer_is_a_refusal",)),
        (PROSE + "I cannot assist with moving.", ()),
        (ANSWER[:-30], ("answer_is_truncated",)),
        (ANSWER + "\n```python\nx = 1\n", ("answer_is_truncated",)),
        (ANSWER + "\n\n- rice\n- salt\n- two cups of cold water from the tap in there", ()),
        ("Add the rice and stir. " * 12, ("answer_is_repetitive",)),
        ("Use this:\n```python\nprint('a'\n```", ("code_does_not_parse",)),
        ("Use this:\n```python\nprint('\\d')\n```", ()),
        ("1. Use this:\n   ```python\n   if a:\n       b()\n   ```", ()),
        ('Use this:\n```json\n{"a": 1,}\n```', ("code_does_not_parse",)),
        ('Use this:\n```json\n{"a": 1}\n```\nor\n```\n{a\n```', ()),
        ("Use this:\n```python\n" + "(" * 5000 + "\n```", ("code_does_not_parse",)),
    ],
)
def test_rules_for_answers(answers: Rule, answer: str, reasons: tuple[str, ...]) -> None:
    assert answers.examine(_pair(answer)).reasons == reasons


def test_bounds_of_length() -> None:
    rule = _rule("answers", min_answer_words=1, max_answer_words=30)
    assert rule.examine(_pair("positive")).reasons == ()
    assert rule.examine(_pair(ANSWER + " Enjoy it.")).reasons == ("answer_has_too_many_words",)


def test_only_answers_that_are_taught_are_judged(answers: Rule) -> None:
    refusal, bad = "I'm sorry, but I can't help with that.", ("answer_is_a_refusal",)

    def reasons(shape: Any, **columns: Any) -> tuple[str, ...]:
        return answers.examine(PreparedRow("a:1", "a", shape, columns)).reasons

    assert reasons("preference", prompt="p", chosen=ANSWER, rejected=refusal) == ()
    assert reasons("preference", prompt="p", chosen=refusal, rejected=ANSWER) == bad
    assert reasons("preference", prompt="p", chosen=ANSWER, rejected=ANSWER) == (
        "answers_are_equal",
    )
    assert reasons("ranking", prompt="p", answers=[refusal, ANSWER], ranks=[2, 1]) == ()
    ranks = '{"helpful": [2, 1], "harmless": [1, 3]}'
    assert reasons("ranking", prompt="p", answers=[refusal, ANSWER], ranks=ranks) == bad
    assert reasons("unpaired", prompt="p", completion=refusal, label=False) == ()
    assert reasons("unpaired", prompt="p", completion=refusal, label=True) == bad
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Help"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": ""},
        {"role": "assistant", "content": refusal},
    ]
    assert reasons("messages", messages=turns) == bad
    assert reasons("messages", messages=turns[:-1]) == ()
    assert reasons("messages", messages=[{**turn, "weight": 0} for turn in turns]) == ()


def test_contradicting_bounds_are_a_problem() -> None:
    step = QualityStep(step="quality", rules=("answers",), min_answer_words=9, max_answer_words=3)
    (problem,) = step.problems("prepare.steps.1")
    assert problem.path == "prepare.steps.1.max_answer_words"
