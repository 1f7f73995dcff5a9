"""Drift of a window of traffic from the training set.

Each feature of the prompts is compared by a permutation test, and the shares of refusals,
repetitions and empty answers by Fisher's exact test. Holm's correction covers all tests of a
window together, so that a window without drift is flagged with at most the probability of the
level. With many calls the smallest difference is significant: a feature is flagged only if the
effect is as large as its limit, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from monitoring.features import Features
from monitoring.statistics.embeddings import gaussian_kernel, separability, witness
from monitoring.statistics.permutation import PermutationTest
from safety.binomial import Proportion, fisher_greater, holm

_TOKENS = 500
"""Most frequent token ids that are compared one by one; the others are counted together."""


@dataclass(frozen=True)
class DriftLimits:
    """Limits from which a feature is flagged.

    Attributes:
        level: Probability of a flag in a window without drift.
        length: Kolmogorov-Smirnov distance of the lengths, and of the losses.
        tokens: Jensen-Shannon distance beyond that of chance.
        languages: Share of prompts in another language than expected.
        embeddings: Area under the ROC curve of the best kernel mean classifier.
        answers: Increase of a share of answers.
        permutations: Number of permutations.
        fewest: Fewest calls of a window that is tested.
    """

    level: float = 0.01
    length: float = 0.15
    tokens: float = 0.03
    languages: float = 0.05
    embeddings: float = 0.6
    answers: float = 0.05
    permutations: int = 999
    fewest: int = 30


@dataclass(frozen=True)
class FeatureDrift:
    """Comparison of one feature.

    Attributes:
        feature: Name of the feature.
        effect: Size of the difference.
        effect_name: What it measures.
        limit: Effect from which the feature is flagged.
        p: The p-value.
        p_holm: The p-value after Holm's correction over all features of the window.
        detail: The difference in words.
        flagged: Whether the effect reaches the limit and the p-value is below the level.
    """

    feature: str
    effect: float
    effect_name: str
    limit: float
    p: float
    detail: str = ""
    p_holm: float = 1.0
    flagged: bool = False


@dataclass(frozen=True)
class WindowDrift:
    """Drift of a window.

    Attributes:
        features: Comparisons.
        scores: Score of each call: how much nearer it is to the window than to the training set.
    """

    features: tuple[FeatureDrift, ...] = ()
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def flagged(self) -> tuple[FeatureDrift, ...]:
        """The features that have drifted."""
        return tuple(feature for feature in self.features if feature.flagged)


def window_drift(
    training: Features,
    window: Features,
    limits: DriftLimits,
    *,
    token_text: Callable[[int], str] = str,
    seed: int = 0,
) -> WindowDrift:
    """Return the drift of a window.

    Args:
        training: Features of the training set.
        window: Features of the window.
        limits: Limits of the flags.
        token_text: Returns the text of a token id.
        seed: Seed of the permutations.
    """
    first = len(training)
    test = PermutationTest(first, len(window), permutations=limits.permutations, seed=seed)
    kernel = gaussian_kernel(np.concatenate([training.embeddings, window.embeddings]))
    scores = witness(kernel, first)
    found = [
        _values(test, "prompt length", training, window, "prompt_tokens", limits.length),
        _values(test, "prompt loss", training, window, "prompt_nats", limits.length),
        _tokens(test, training, window, limits.tokens, token_text),
        _languages(test, training, window, limits.languages),
        FeatureDrift(
            "embedding",
            separability(scores, first),
            "AUC",
            limits.embeddings,
            test.maximum_mean_discrepancy(kernel).p,
            "how well a classifier tells calls from training rows; 0.5 is by chance",
        ),
        *(_answers(name, training, window, limits.answers) for name in _ANSWERS),
    ]
    return WindowDrift(_flag([one for one in found if one is not None], limits), scores[first:])


def _flag(found: Sequence[FeatureDrift], limits: DriftLimits) -> tuple[FeatureDrift, ...]:
    adjusted = holm([one.p for one in found])
    return tuple(
        replace(one, p_holm=p, flagged=bool(p <= limits.level and one.effect >= one.limit))
        for one, p in zip(found, adjusted, strict=True)
    )


def _values(
    test: PermutationTest,
    name: str,
    training: Features,
    window: Features,
    column: str,
    limit: float,
) -> FeatureDrift:
    before, now = getattr(training, column), getattr(window, column)
    both = np.concatenate([before, now]).astype(np.float64)
    result = test.kolmogorov_smirnov(np.nan_to_num(both, nan=-1.0))
    unit = "tokens" if column == "prompt_tokens" else "nats per token"
    old, new = float(np.nanmedian(before)), float(np.nanmedian(now))
    detail = f"median {old:.4g} {unit} in the training set, {new:.4g} here"
    return FeatureDrift(name, result.statistic, "KS distance", limit, result.p, detail)


def _tokens(
    test: PermutationTest,
    training: Features,
    window: Features,
    limit: float,
    token_text: Callable[[int], str],
) -> FeatureDrift:
    counts, ids = token_counts(training, window)
    result = test.jensen_shannon(counts)
    first = len(training)
    shares = [
        part.sum(axis=0, dtype=np.float64) / max(1.0, float(part.sum()))
        for part in (counts[:first], counts[first:])
    ]
    grown = int(np.argmax((shares[1] - shares[0])[: len(ids)]))
    detail = (
        f"the token {token_text(int(ids[grown]))!r} grew most: {shares[0][grown]:.2%} of the "
        f"training set's tokens, {shares[1][grown]:.2%} here"
    )
    return FeatureDrift("tokens", result.excess, "JS distance", limit, result.p, detail)


def token_counts(
    training: Features, window: Features
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return counts of tokens by row, and the ids of all columns but the last.

    The most frequent ids have a column each, and all others share the last one.

    Args:
        training: Features of the training set.
        window: Features of a window.
    """
    ids = np.concatenate([training.token_ids, window.token_ids])
    values, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:_TOKENS])
    column = np.full(len(values), len(kept))
    column[kept] = np.arange(len(kept))
    lengths = np.concatenate([np.diff(f.token_ends, prepend=0) for f in (training, window)])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    width = len(kept) + 1
    table = np.bincount(rows * width + column[places], minlength=len(lengths) * width)
    return table.reshape(len(lengths), width).astype(np.float32), values[kept]


def _languages(
    test: PermutationTest, training: Features, window: Features, limit: float
) -> FeatureDrift | None:
    both = np.concatenate([training.languages, window.languages])
    if not (both != "").all():
        return None
    names, places = np.unique(both, return_inverse=True)
    counts = np.zeros((len(both), len(names)), dtype=np.float32)
    counts[np.arange(len(both)), places] = 1
    result = test.total_variation(counts)
    before, now = counts[: len(training)].mean(axis=0), counts[len(training) :].mean(axis=0)
    grown = int(np.argmax(now - before))
    detail = f"{names[grown]}: {before[grown]:.1%} of the training set, {now[grown]:.1%} here"
    return FeatureDrift("language", result.statistic, "share that changed", limit, result.p, detail)


_ANSWERS = ("refused", "repeated", "empty")


def _answers(name: str, training: Features, window: Features, limit: float) -> FeatureDrift | None:
    """Return the comparison of a share of answers; None if one side has no answer."""
    before, now = Proportion(*training.share(name)), Proportion(*window.share(name))
    if not before.of or not now.of:
        return None
    detail = f"{before.value:.1%} of the training set's answers, {now.value:.1%} here"
    p = fisher_greater(now, before)
    return FeatureDrift(f"{name} answers", now.value - before.value, "increase", limit, p, detail)
