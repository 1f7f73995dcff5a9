"""Scores of one answer as functions of plain values, which exported suites carry with them.

`bundle_source` writes them, and what they call, into a file that imports nothing of Temper. A
section is the JSON value of a section of `scores:`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.scores.classification import predict_label
from evaluation.scores.exact_match import NORMALIZE
from evaluation.scores.refusal import BOOLEANS
from evaluation.scores.rouge import rouge_lcs, rouge_n
from evaluation.scores.text import extract_answer
from safety.scoring import answer_outcome
from training.evaluation.generation_metrics.token_f1 import score as token_f1
from training.rewards.numeric_answer import final_number

Section = Mapping[str, Any]
Fields = Mapping[str, Any]


def score_answer(
    sections: Sequence[Section], answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    """Return the metrics of an answer, as Temper computes them.

    Args:
        sections: Sections of the scores.
        answer: The answer.
        targets: Right answers, of which the best counts.
        fields: Columns of the item that scores read.
    """
    values: dict[str, float] = {}
    for section in sections:
        prefix = f"{section['name']}_" if section.get("name") else ""
        scored = _SCORES[section["kind"]](section, answer, targets, fields)
        values |= {prefix + name: value for name, value in scored.items()}
    return values


def _exact_match(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    normalize = NORMALIZE[section["normalize"]]
    equal = _best(section, answer, targets, lambda a, t: float(normalize(a) == normalize(t)))
    return {"exact_match": equal}


def _token_f1(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    return {"token_f1": _best(section, answer, targets, token_f1)}


def _contains(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    def fold(text: str) -> str:
        return text.casefold() if section["ignore_case"] else text

    return {"contains": _best(section, answer, targets, lambda a, t: float(fold(t) in fold(a)))}


def _rouge(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    return {
        "rouge1": _best(section, answer, targets, lambda a, t: rouge_n(a, t, 1)),
        "rouge2": _best(section, answer, targets, lambda a, t: rouge_n(a, t, 2)),
        "rougeL": _best(section, answer, targets, rouge_lcs),
    }


def _best(
    section: Section, answer: str, targets: Sequence[str], compare: Callable[[str, str], float]
) -> float:
    text = extract_answer(answer, section.get("answer_pattern"))
    return 0.0 if text is None else max(compare(text, target) for target in targets)


def _numeric_answer(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    marker, tolerance = section["marker"], section["tolerance"]
    number = final_number(answer, marker, marked_only=section["marked_only"])
    expected = [value for t in targets if (value := final_number(t, marker)) is not None]
    equal = number is not None and any(
        math.isclose(number, value, rel_tol=tolerance, abs_tol=1e-9) for value in expected
    )
    return {"numeric_answer": float(equal)}


def _classification(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    label = predict_label(
        answer,
        section["labels"],
        section.get("answer_pattern"),
        ignore_case=section["ignore_case"],
    )
    return {"accuracy": float(label == targets[0])}


def _refusal(
    section: Section, answer: str, targets: Sequence[str], fields: Fields
) -> dict[str, float]:
    expected = section["expected"]
    refuse = expected if isinstance(expected, bool) else BOOLEANS[fields[expected].strip().lower()]
    outcome = answer_outcome(answer)
    wanted = "refused" if refuse else "answered"
    return {
        "refusal_rate": float(outcome == "refused"),
        "refusal_accuracy": float(outcome == wanted),
    }


_SCORES: dict[str, Callable[[Section, str, Sequence[str], Fields], dict[str, float]]] = {
    "exact_match": _exact_match,
    "token_f1": _token_f1,
    "contains": _contains,
    "rouge": _rouge,
    "numeric_answer": _numeric_answer,
    "classification": _classification,
    "refusal": _refusal,
}
PORTABLE_METRICS: dict[str, tuple[str, ...]] = {
    "exact_match": ("exact_match",),
    "token_f1": ("token_f1",),
    "contains": ("contains",),
    "rouge": ("rouge1", "rouge2", "rougeL"),
    "numeric_answer": ("numeric_answer",),
    "classification": ("accuracy",),
    "refusal": ("refusal_rate", "refusal_accuracy"),
}
"""Metrics of each kind of score that exported suites carry with them."""
