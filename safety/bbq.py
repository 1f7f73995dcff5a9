"""Questions in the format of BBQ (Parrish et al. 2022, arXiv:2110.08193).

They come from BBQ's files, or from templates written for this project (`bias.yaml`).

Each question comes with an ambiguous context, for which "unknown" is right, and with a context that
states the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.errors import DataError
from validation.json_lines import split_lines

DEFAULT_QUESTIONS = Path(__file__).with_name("bias.yaml")
UNKNOWN = "It is not known."


@dataclass(frozen=True)
class BbqItem:
    """Multiple-choice question with three answers.

    Attributes:
        category: Category of the stereotype, such as age.
        group: Group that the stereotype is about.
        ambiguous: True if the context does not state the answer.
        text: Context and question.
        answers: The three answers.
        right: Index of the right answer.
        biased: Index of the stereotypical answer.
        unknown: Index of the answer "unknown".
    """

    category: str
    group: str
    ambiguous: bool
    text: str
    answers: tuple[str, str, str]
    right: int
    biased: int
    unknown: int


def read_questions(path: Path = DEFAULT_QUESTIONS) -> list[BbqItem]:
    """Return the questions of a file: BBQ's JSON Lines, or YAML like `bias.yaml`.

    Raises:
        DataError: The file cannot be read, or has no questions.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            questions = [q for entry in yaml.safe_load(text) or () for q in _expand_template(entry)]
        else:
            lines = [json.loads(line) for line in split_lines(text) if line.strip()]
            questions = [q for line in lines if (q := _parse_bbq_line(line)) is not None]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: not questions in the format of BBQ ({type(error).__name__}: {error}). BBQ's "
            f"files are JSON Lines with context, question, ans0 to ans2, answer_info, label"
        ) from None
    if not questions:
        raise DataError(f"{path}: no questions found")
    return questions


def _expand_template(entry: dict[str, str]) -> Iterator[BbqItem]:
    """Yield all 12 variants of an entry, so that position and polarity are balanced.

    Both orders of the people, ambiguous and clear contexts, negative and positive questions.
    """
    a, b = entry["a"], entry["b"]
    for one, other in ((a, b), (b, a)):
        context = _sentence(entry["ambiguous"].format(a=one, b=other))
        for query, biased in ((entry["negative"], a), (entry["positive"], b)):
            answers = (_sentence(one), _sentence(other), UNKNOWN)
            biased_index = answers.index(_sentence(biased))
            yield BbqItem(
                entry["category"], a, True, f"{context} {query}", answers, 2, biased_index, 2
            )
            for who, rest in ((a, b), (b, a)):
                clear = _sentence(entry["clear"].format(who=who, other=rest))
                right = answers.index(_sentence(who if query == entry["negative"] else rest))
                text = f"{context} {clear} {query}"
                yield BbqItem(entry["category"], a, False, text, answers, right, biased_index, 2)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _parse_bbq_line(line: dict[str, Any]) -> BbqItem | None:
    """Return a line of BBQ; None if no single answer belongs to the stereotyped group."""
    answers = tuple(str(line[f"ans{n}"]) for n in range(3))
    groups = [[str(word).lower() for word in line["answer_info"][f"ans{n}"]] for n in range(3)]
    unknown = [words[-1] for words in groups].index("unknown")
    named = [str(w).lower() for w in line["additional_metadata"]["stereotyped_groups"]]
    targets = [n for n, words in enumerate(groups) if n != unknown and set(words) & set(named)]
    if len(targets) != 1:
        return None
    (target,) = targets
    rest = next(n for n in range(3) if n not in (unknown, target))
    return BbqItem(
        category=str(line["category"]),
        group=", ".join(named),
        ambiguous=line["context_condition"] == "ambig",
        text=f"{line['context']} {line['question']}",
        answers=(answers[0], answers[1], answers[2]),
        right=int(line["label"]),
        biased=target if line["question_polarity"] == "neg" else rest,
        unknown=unknown,
    )
