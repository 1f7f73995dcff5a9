"""Training of the classifier, and its accuracy on examples that it has not learned from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from numpy.typing import NDArray

from preparation.steps.quality_classifier.accuracy import accuracy
from preparation.steps.quality_classifier.examples import FOLDS, folds, read_examples
from preparation.steps.quality_classifier.model import features, fit, scores

if TYPE_CHECKING:
    from preparation.steps.quality_classifier.section import QualityClassifierStep

_WEIGHTS, _FACTS = "quality_classifier/weights.npy", "quality_classifier/facts.json"


@dataclass(frozen=True)
class QualityModel:
    """Trained classifier.

    Attributes:
        weights: Weights and bias.
        examples: Hash of an example's text -> whether it is good, and the score of a model that
            has not learned from it.
        facts: Accuracy, for the report.
    """

    weights: NDArray[Any]
    examples: Mapping[str, tuple[bool, float]]
    facts: Mapping[str, Any]


def train(section: QualityClassifierStep) -> QualityModel:
    """Return the classifier of a section, trained and measured.

    Raises:
        DataError: The examples cannot be used.
    """
    import numpy as np

    good, bad = read_examples(section)
    examples = good + bad
    is_good = np.array([True] * len(good) + [False] * len(bad))
    matrix = features([example.text for example in examples])
    fold = np.array(folds(examples))
    judged = np.full(len(examples), np.nan)
    for number in range(FOLDS):
        held = fold == number
        if held.any() and len(set(is_good[~held])) > 1:
            judged[held] = scores(fit(matrix[~held], is_good[~held]), matrix[held])
    measured = ~np.isnan(judged)
    weights = fit(matrix, is_good)
    facts = {
        "good": len(good),
        "bad": len(bad),
        "model": hashlib.sha256(weights.tobytes()).hexdigest(),
        **accuracy(judged[measured], is_good[measured]),
    }
    known = {
        example.key: (bool(side), float(score))
        for example, side, score in zip(examples, is_good, judged, strict=True)
        if not np.isnan(score)
    }
    return QualityModel(weights, known, facts)


def write_classifier(folder: Any, model: QualityModel) -> None:
    """Write a classifier into the folder of a preparation.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        model: The classifier.
    """
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, model.weights)
    with folder.open(_WEIGHTS, "wb") as stream:
        stream.write(buffer.getvalue())
    with folder.open(_FACTS, "wb") as stream:
        stream.write(orjson.dumps({"facts": model.facts, "examples": model.examples}))


def read_classifier(folder: Any) -> QualityModel:
    """Return the classifier of a preparation."""
    import numpy as np

    with folder.open(_WEIGHTS, "rb") as stream:
        weights = np.load(io.BytesIO(stream.read()))
    with folder.open(_FACTS, "rb") as stream:
        stored = orjson.loads(stream.read())
    examples = {key: (good, score) for key, (good, score) in stored["examples"].items()}
    return QualityModel(weights, examples, stored["facts"])
