"""Rule that scores rows by the trained classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from preparation.rows import PreparedRow, Scalar
from preparation.steps.quality_classifier.examples import key_of, text_of
from preparation.steps.quality_classifier.model import features, scores
from preparation.steps.quality_classifier.section import REPORTED_BELOW
from preparation.steps.quality_classifier.training import QualityModel
from preparation.steps.step import Examination, Rule

if TYPE_CHECKING:
    from preparation.steps.quality_classifier.section import QualityClassifierStep


class QualityScores(Rule):
    """Rule of the step `quality_classifier`.

    A row that is an example itself has the score of a model that has not learned from it, is
    tagged, left out of the counts of scores, and if it is a good example never rejected.

    Args:
        section: Section of the step.
        model: The trained classifier.
    """

    def __init__(self, section: QualityClassifierStep, model: QualityModel):
        self._texts = section.texts
        self._threshold = section.drop_below or REPORTED_BELOW
        self._model = model
        self._counts: Counter[str] = Counter()

    def examine(self, row: PreparedRow) -> Examination:
        """Examine a row."""
        return self.examine_all([row])[0]

    def examine_all(self, rows: Sequence[PreparedRow]) -> list[Examination]:
        """Examine several rows, whose features are made at once."""
        texts = [text_of(row, self._texts) for row in rows]
        scored = [index for index, text in enumerate(texts) if text.strip()]
        results = [Examination() for _ in rows]
        self._counts["without text"] += len(rows) - len(scored)
        if scored:
            values = scores(self._model.weights, features([texts[index] for index in scored]))
            for index, value in zip(scored, values, strict=True):
                results[index] = self._judge(texts[index], float(value))
        return results

    def _judge(self, text: str, score: float) -> Examination:
        tags: dict[str, Scalar] = {"quality_score": score}
        example = self._model.examples.get(key_of(text))
        if example is None:
            self._counts[f"{min(int(score * 10), 9)}"] += 1
        else:
            is_good, score = example
            tags = {"quality_score": score, "quality_example": "good" if is_good else "bad"}
            self._counts["examples"] += 1
            if is_good:
                return Examination(tags=tags)
        return Examination(reasons=("low_quality",) if score < self._threshold else (), tags=tags)

    def measured(self) -> dict[str, Any]:
        """Return the number of rows by tenth of the score."""
        return {"rows": dict(self._counts)}
