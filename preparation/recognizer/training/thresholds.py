"""Choice of the probability from which a token belongs to a kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preparation.recognizer.kinds import IDENTIFIERS, KINDS, Kind
from preparation.recognizer.recognizer import DEFAULT_THRESHOLD, Recognizer
from preparation.recognizer.training import corpora
from preparation.recognizer.training.corpus import AnnotatedText, for_choice
from preparation.recognizer.training.scoring import SpanScore, score
from preparation.recognizer.training.values import Values
from preparation.steps.personal_data.rule import PersonalDataRule
from preparation.steps.personal_data.section import PersonalDataStep

GRID = (0.5, 0.7, 0.3, 0.2, 0.12, 0.08, 0.05)
_TEXTS_OF_A_TEMPLATE = 8
"""So many texts at most, so that no template decides alone."""


def choice_texts(data: Path, shares: Sequence[str], seed: int) -> list[AnnotatedText]:
    """Return texts of templates and notes that are neither trained on nor reported.

    Args:
        data: Folder of the published sets.
        shares: Files of templates.
        seed: Seed of the made-up values.
    """
    own = for_choice(shares, Values(seed), _TEXTS_OF_A_TEMPLATE)
    published = corpora.presidio_examples(data / "pii", "choose", _TEXTS_OF_A_TEMPLATE)
    notes = [note for part, note in corpora.meddocan(data / "pii") if part == "choose"]
    return [*own, *(example for _, example in published), *notes]


def choose(folder: Path, examples: Sequence[AnnotatedText]) -> dict[Kind, float]:
    """Return the threshold of each kind that finds most and is seldom wrong.

    A span that is missed counts twice as much as a wrong one: what is missed stays in the data. Of
    equally good thresholds, the first of `GRID` is chosen.

    Args:
        folder: Folder of the model.
        examples: Marked texts that were not trained on.
    """
    scores = {threshold: _score_with(folder, threshold, examples) for threshold in GRID}

    def best(kind: Kind) -> float:
        def gain(threshold: float) -> int:
            result = scores[threshold]
            return 2 * result.found[kind] - (result.predicted[kind] - result.right[kind])

        return max(GRID, key=gain)

    others = [kind for kind in KINDS if kind not in IDENTIFIERS]
    return {kind: best(kind) for kind in IDENTIFIERS} | dict.fromkeys(others, DEFAULT_THRESHOLD)


def _score_with(folder: Path, threshold: float, examples: Sequence[AnnotatedText]) -> SpanScore:
    recognizer = Recognizer(folder, dict.fromkeys(KINDS, threshold))
    rule = PersonalDataRule(PersonalDataStep(step="personal_data", kinds=KINDS), recognizer)
    return score(rule, examples)
