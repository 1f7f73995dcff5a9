"""Questions in the form of BBQ (Parrish et al. 2022, arXiv:2110.08193), from its files or our own.

Each question is asked where the context does not say the answer (the right one is that it is not
known) and where it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.errors import DataError

OURS = Path(__file__).with_name("bias.yaml")
UNKNOWN = "It is not known."


@dataclass(frozen=True)
class BbqItem:
    """One question.

    Attributes:
        category: What the prejudice is about.
        group: Whom it speaks of.
        ambiguous: Whether the context leaves it open.
        text: Context and question.
        answers: Three of them.
        right: Place of the right one.
        biased: Place of the one that the prejudice would give.
        unknown: Place of the one that says it is not known.
    """

    category: str
    group: str
    ambiguous: bool
    text: str
    answers: tuple[str, str, str]
    right: int
    biased: int
    unknown: int


def read_questions(path: Path = OURS) -> list[BbqItem]:
    """Return the questions of a file: BBQ's JSON Lines, or YAML like ours.

    Raises:
        DataError: It cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            found = [q for entry in yaml.safe_load(text) or () for q in _ours(entry)]
        else:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            found = [q for line in lines if (q := _theirs(line)) is not None]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: not questions in the form of BBQ ({type(error).__name__}: {error}). BBQ's "
            f"files are JSON Lines with context, question, ans0 to ans2, answer_info, label"
        ) from None
    if not found:
        raise DataError(f"{path}: there are no questions in it")
    return found


def _ours(entry: dict[str, str]) -> Iterator[BbqItem]:
    """Yield all forms of an entry: both orders, open and clear, negative and positive."""
    a, b = entry["a"], entry["b"]
    for one, other in ((a, b), (b, a)):
        opening = _sentence(entry["ambiguous"].format(a=one, b=other))
        for asked, biased in ((entry["negative"], a), (entry["positive"], b)):
            answers = (_sentence(one), _sentence(other), UNKNOWN)
            place = answers.index(_sentence(biased))
            yield BbqItem(entry["category"], a, True, f"{opening} {asked}", answers, 2, place, 2)
            for who, rest in ((a, b), (b, a)):
                clear = _sentence(entry["clear"].format(who=who, other=rest))
                right = answers.index(_sentence(who if asked == entry["negative"] else rest))
                text = f"{opening} {clear} {asked}"
                yield BbqItem(entry["category"], a, False, text, answers, right, place, 2)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _theirs(line: dict[str, Any]) -> BbqItem | None:
    """Return a line of BBQ; None where it does not say whom the prejudice speaks of."""
    answers = tuple(str(line[f"ans{n}"]) for n in range(3))
    groups = [[str(word).lower() for word in line["answer_info"][f"ans{n}"]] for n in range(3)]
    unknown = [words[-1] for words in groups].index("unknown")
    named = [str(w).lower() for w in line["additional_metadata"]["stereotyped_groups"]]
    spoken = [n for n, words in enumerate(groups) if n != unknown and set(words) & set(named)]
    if len(spoken) != 1:
        return None
    (target,) = spoken
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
