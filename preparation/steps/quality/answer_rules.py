"""Rules for answers of fine-tuning and preference rows."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import regex

from preparation.rows import PreparedRow

REFUSALS = (
    "as an ai language model",
    "as a large language model",
    "i'm just an ai",
    "i am just an ai",
    "i can't assist with",
    "i cannot assist with",
    "i can't help with",
    "i cannot help with",
    "i can't fulfill",
    "i cannot fulfill",
    "i can't provide",
    "i cannot provide",
    "i'm not able to provide",
    "i am not able to provide",
    "i'm unable to",
    "i am unable to",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm sorry, i can",
    "i'm sorry, but as an ai",
    "i apologize, but i can",
)
"""Begin of refusals of assistants, in lower case with straight apostrophes."""
_REFUSAL_CHARACTERS = 200
_MIN_WORDS_TO_JUDGE_ENDS = 20
_MIN_WORDS_TO_JUDGE_REPETITION = 30
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}_]+"
)
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
"""The same for a text in ASCII, in a third of the time."""
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.M | re.S)
_OPEN_END = re.compile(r"(?:[,;:(\[{–—-]|\b(?:and|or|the|a|an|of|to|in|with|for|is|are|that))$")
_LIST_ITEM = re.compile(r"\s*(?:[-*+•|>#]|\d+[.)]|[A-Za-z][.)])")


class AnswerRules:
    """Rules for the answers that a row teaches.

    Args:
        min_words: Least number of words of an answer.
        max_words: Greatest number of words; None for any.
    """

    def __init__(self, min_words: int, max_words: int | None):
        from preparation.steps.quality.gopher_repetition import RepetitionFilter
        from preparation.steps.quality.word_splitter import WordSplitter

        self._min_words = min_words
        self._max_words = max_words
        self._repetition = RepetitionFilter(WordSplitter())

    def reasons(self, row: PreparedRow) -> Iterator[str]:
        """Yield the reasons to reject a row, each once."""
        answers = taught_answers(row)
        found = dict.fromkeys(reason for each in answers for reason in self._of_answer(each))
        yield from found
        if row.shape == "preference" and row.columns.get("chosen") == row.columns.get("rejected"):
            yield "answers_are_equal"
        prompt = _last_prompt(row)
        if prompt and any(_same_words(answer, prompt) for answer in answers):
            yield "answer_is_the_prompt"

    def _of_answer(self, answer: str) -> Iterator[str]:
        words = len((_ASCII_WORD if answer.isascii() else _WORD).findall(answer))
        if not answer.strip():
            yield "answer_is_empty"
            return
        if words < self._min_words:
            yield "answer_has_too_few_words"
        if self._max_words is not None and words > self._max_words:
            yield "answer_has_too_many_words"
        if is_refusal(answer):
            yield "answer_is_a_refusal"
        if is_truncated(answer, words):
            yield "answer_is_truncated"
        if words >= _MIN_WORDS_TO_JUDGE_REPETITION and self._is_repetitive(answer):
            yield "answer_is_repetitive"
        if not all(parses(language, code) for language, code in _FENCE.findall(answer)):
            yield "code_does_not_parse"

    def _is_repetitive(self, answer: str) -> bool:
        from datatrove.data import Document

        return self._repetition.filter(Document(text=answer, id="")) is not True


def taught_answers(row: PreparedRow) -> list[str]:
    """Return the answers that training imitates: not rejected ones, and not calls of tools."""
    columns = row.columns
    if row.shape == "unpaired" and not columns.get("label"):
        return []
    if row.shape == "ranking":
        return _contents(columns["answers"][_best(columns)])
    name = next((n for n in ("completion", "chosen", "messages") if n in columns), None)
    return _contents(columns[name]) if name else []


def is_refusal(answer: str) -> bool:
    """Return True if an English answer begins with a refusal."""
    begin = answer[:_REFUSAL_CHARACTERS].lower().replace("’", "'")
    return any(refusal in begin for refusal in REFUSALS)


def is_truncated(answer: str, words: int) -> bool:
    """Return True if an answer ends within a sentence or a block of code.

    Args:
        answer: The answer.
        words: Number of its words.
    """
    if len(re.findall(r"^[ \t]*```", answer, re.M)) % 2:
        return True
    last = answer.rstrip().rsplit("\n", 1)[-1]
    if words < _MIN_WORDS_TO_JUDGE_ENDS or last.strip().startswith("```"):
        return False
    if _OPEN_END.search(last):
        return True
    ends_in_a_word = regex.search(r"[\p{L}\p{M}\p{N}]$", last) is not None
    # Headings, items of lists, addresses and verses end without a full stop.
    return ends_in_a_word and not _LIST_ITEM.match(last) and len(last.split()) >= 8


def parses(language: str, code: str) -> bool:
    """Return False if a block of Python or JSON has a syntax error."""
    try:
        if language.lower() in ("python", "py", "python3") and ">>>" not in code:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # for invalid escapes in the code
                ast.parse(_dedented(code))
        elif language.lower() == "json":
            json.loads(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _dedented(code: str) -> str:
    """Return the code without the indentation of its first line, as in an item of a list."""
    indent = re.match(r"[ \t]*", code)
    return re.sub(rf"(?m)^{indent[0]}", "", code) if indent and indent[0] else code


def _best(columns: Mapping[str, Any]) -> int:
    """Return the index of the answer with the least mean rank over all dimensions."""
    from training.data.schema.rankings import parse_rankings

    ranks = columns["ranks"]
    value = json.loads(ranks) if isinstance(ranks, str) else ranks
    count = len(columns["answers"])
    rankings = parse_rankings(value, "ranks", count, {}).values()
    return min(range(count), key=lambda index: sum(ranking[index] for ranking in rankings))


def _contents(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [
        message.get("content") or ""
        for message in value or ()
        if message["role"] == "assistant"
        and not message.get("tool_calls")
        and message.get("weight") != 0  # context that is not learned
    ]


def _last_prompt(row: PreparedRow) -> str:
    prompts = [part.text for part in row.parts() if part.role in ("prompt", "user")]
    return prompts[-1] if prompts else ""


def _same_words(one: str, other: str) -> bool:
    """Return True if two texts have the same words; most differ in the first one."""
    first, second = _WORD.search(one), _WORD.search(other)
    if (first and first[0].lower()) != (second and second[0].lower()):
        return False
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
