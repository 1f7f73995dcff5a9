"""Rules that decide whether an answer follows an instruction, by the instruction's id.

They decide as the reference implementation (google-research/instruction_following_eval) does, also
where it is lenient: keywords are searched as regular expressions, for instance. A character that
is no letter is counted too, where the reference draws a letter at random.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from evaluation.scores.instructions.text_units import (
    count_sentences,
    count_words,
    is_language,
    upper_case_tokens,
)

Rule = Callable[..., bool]
_ASTERISKS = "*" * 3
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s.*$", "P.S.": r"p\.\s?s\..*$"}
_FIRST_WORD_ENDS = re.compile(r"[.,?!'\"]")


def _compare(count: int, relation: str, threshold: int) -> bool:
    """Return True if a count is `less than` or `at least` a threshold.

    Raises:
        ValueError: The relation is neither.
    """
    if relation not in ("less than", "at least"):
        raise ValueError(f"relation {relation!r}: write less than, or at least")
    return count < threshold if relation == "less than" else count >= threshold


def _keywords(answer: str, *, keywords: list[str]) -> bool:
    return all(re.search(keyword.strip(), answer, re.IGNORECASE) for keyword in keywords)


def _keyword_frequency(answer: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return _compare(len(re.findall(keyword.strip(), answer, re.IGNORECASE)), relation, frequency)


def _forbidden_words(answer: str, *, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", answer, re.IGNORECASE) for word in forbidden_words)


def _letter_frequency(answer: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compare(answer.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _response_language(answer: str, *, language: str) -> bool:
    return is_language(answer, language)


def _number_sentences(answer: str, *, num_sentences: int, relation: str) -> bool:
    return _compare(count_sentences(answer), relation, num_sentences)


def _number_words(answer: str, *, num_words: int, relation: str) -> bool:
    return _compare(count_words(answer), relation, num_words)


def _number_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    paragraphs = [p.strip() for p in re.split(r"\s?\*\*\*\s?", answer)]
    # Dividers at the start and the end separate nothing; between them each paragraph needs text.
    return all(paragraphs[1:-1]) and len([p for p in paragraphs if p]) == num_paragraphs


def _nth_paragraph_first_word(
    answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    paragraphs = answer.split("\n\n")
    count = sum(bool(p.strip()) for p in paragraphs)
    if nth_paragraph > count or not (text := paragraphs[nth_paragraph - 1].strip()):
        return False
    word = text.split()[0].lstrip("'").lstrip('"')
    start = _FIRST_WORD_ENDS.split(word, maxsplit=1)[0].lower()
    return count == num_paragraphs and start == first_word.lower()


def _number_placeholders(answer: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


def _postscript(answer: str, *, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    pattern = _POSTSCRIPTS.get(marker, marker.lower() + r".*$")
    return re.search(r"\s*" + pattern, answer.lower(), re.MULTILINE) is not None


def _number_bullet_lists(answer: str, *, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _constrained_response(answer: str) -> bool:
    return any(choice in answer for choice in _CHOICES)


def _number_highlighted_sections(answer: str, *, num_highlights: int) -> bool:
    single = [h.strip("*") for h in re.findall(r"\*[^\n\*]*\*", answer)]
    double = [h[2:-2] for h in re.findall(r"\*\*[^\n\*]*\*\*", answer)]
    return sum(bool(h.strip()) for h in single + double) >= num_highlights


def _multiple_sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    parts = re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", answer)
    return len(parts) - 1 >= num_sections


def _json_format(answer: str) -> bool:
    text = re.sub(r"^```(?:json|Json|JSON)?", "", answer.strip()).removesuffix("```").strip()
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _title(answer: str) -> bool:
    return any(t.lstrip("<").rstrip(">").strip() for t in re.findall(r"<<[^\n]+>>", answer))


def _two_responses(answer: str) -> bool:
    responses = [r.strip() for r in answer.split(_ASTERISKS * 2)]
    both = [r for r in responses if r]
    return all(responses[1:-1]) and len(both) == 2 and both[0] != both[1]


def _repeat_prompt(answer: str, *, prompt_to_repeat: str) -> bool:
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end_checker(answer: str, *, end_phrase: str) -> bool:
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _capital_word_frequency(answer: str, *, capital_frequency: int, capital_relation: str) -> bool:
    return _compare(upper_case_tokens(answer), capital_relation, capital_frequency)


def _english_capital(answer: str) -> bool:
    # Identified in lower case: text in capitals is taken for other languages more often.
    return answer.isupper() and is_language(answer.lower(), "en")


def _english_lowercase(answer: str) -> bool:
    return answer.islower() and is_language(answer, "en")


def _no_comma(answer: str) -> bool:
    return "," not in answer


def _quotation(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


RULES: dict[str, Rule] = {
    "keywords:existence": _keywords,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _response_language,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_words": _number_words,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_first_word,
    "detectable_content:number_placeholders": _number_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _number_bullet_lists,
    "detectable_format:constrained_response": _constrained_response,
    "detectable_format:number_highlighted_sections": _number_highlighted_sections,
    "detectable_format:multiple_sections": _multiple_sections,
    "detectable_format:json_format": _json_format,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end_checker,
    "change_case:capital_word_frequency": _capital_word_frequency,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "punctuation:no_comma": _no_comma,
    "startend:quotation": _quotation,
}
"""Rule of each instruction id. A rule takes the answer and the instruction's arguments."""


def follows(instruction: str, answer: str, arguments: dict[str, Any]) -> bool:
    """Return True if an answer follows an instruction; an empty answer follows none.

    Args:
        instruction: Id of the instruction, one of `RULES`.
        answer: The answer.
        arguments: Arguments of the instruction; None values are left out.

    Raises:
        TypeError: An argument is missing or unknown.
        ValueError: An argument has a value that the rule does not know.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    return bool(answer.strip()) and RULES[instruction](answer, **given)
