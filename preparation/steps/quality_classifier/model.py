"""Linear model over hashed words, word pairs and groups of characters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

_FEATURES = 1 << 18
"""Columns of each of the two kinds of features."""
_CHARACTERS = 4_000
"""Characters of a text that are read: its beginning tells its kind, and bounds the time."""
_INVERSE_REGULARIZATION = 10.0
_BATCH = 2_000


@lru_cache(maxsize=1)
def _vectorizers() -> tuple[Any, Any]:
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(
        ngram_range=(1, 2),
        n_features=_FEATURES,
        alternate_sign=False,
        token_pattern=r"(?u)\w+|[^\w\s]",
        dtype=np.float32,
    )
    characters = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 4),
        n_features=_FEATURES,
        alternate_sign=False,
        lowercase=False,
        dtype=np.float32,
    )
    return words, characters


def features(texts: Sequence[str]) -> Any:
    """Return the features of texts, a sparse matrix of shape `(texts, 2 * _FEATURES)`."""
    from scipy.sparse import hstack, vstack

    blocks = []
    for start in range(0, len(texts), _BATCH):
        batch = [text[:_CHARACTERS] for text in texts[start : start + _BATCH]]
        blocks.append(hstack([each.transform(batch) for each in _vectorizers()]))
    return vstack(blocks).tocsr()


def fit(matrix: Any, is_good: NDArray[Any]) -> NDArray[Any]:
    """Return the weights and, as the last number, the bias of a logistic regression.

    Both sides count the same, whatever their sizes, so that a score of 0.5 is neutral. Coordinate
    descent with a fixed seed is the same on every machine.

    Args:
        matrix: Features of the examples.
        is_good: Whether each is good, of shape `(examples,)`.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        solver="liblinear",
        C=_INVERSE_REGULARIZATION,
        class_weight="balanced",
        random_state=0,
        max_iter=1_000,
    )
    model.fit(matrix, is_good)
    return np.concatenate([model.coef_[0], model.intercept_]).astype(np.float32)


def scores(weights: NDArray[Any], matrix: Any) -> NDArray[Any]:
    """Return the scores of texts, from 0 to 1, rounded as they are written.

    Args:
        weights: Weights and bias.
        matrix: Features of the texts.
    """
    import numpy as np

    logits = (matrix @ weights[:-1]).astype(np.float64) + weights[-1]
    return np.round(1 / (1 + np.exp(-logits)), 3)
