"""False alarms and power of the drift of windows of real text."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest

from monitoring.drift import DriftLimits, window_drift
from monitoring.features import Features
from monitoring.language import language_identifier
from monitoring.measure import ServedModelMeasure
from monitoring.prompt_answer import PromptAnswer
from monitoring.statistics.k_of_n import alarms
from tests.factories import docstrings, make_tiny_model
from training.data.readers.python_stdlib import records

pytestmark = pytest.mark.slow
WINDOWS, TRAINING, WINDOW, OTHERS = 200, 300, 40, 60
LIMITS = DriftLimits()


@dataclass
class Measured:
    """Features of a training set, of further rows like it, and of rows of another domain."""

    training: Features
    alike: Features
    mixed: Features


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = make_tiny_model(tmp_path_factory.mktemp("measured") / "tiny")
    measure = ServedModelMeasure(str(folder), language_identifier())
    rows = [row.values for row in itertools.islice(records("qa"), 3000)]
    random.Random(0).shuffle(rows)
    questions = [PromptAnswer(r["prompt"], r["completion"]) for r in rows[:1200]]
    other = [PromptAnswer(f"Shorten this: {text[:160]}", text) for _, text in docstrings()]
    features = measure.features([*questions, *other[:OTHERS]])
    return Measured(
        features.take(range(TRAINING)),
        features.take(range(TRAINING, len(questions))),
        features.take(range(TRAINING, len(features))),
    )


def test_at_most_one_window_in_twenty_is_flagged_without_a_shift(measured: Measured) -> None:
    generator = np.random.default_rng(0)
    flags: list[bool | None] = []
    significant = 0
    for seed in range(WINDOWS):
        rows = generator.choice(len(measured.alike), WINDOW, replace=False)
        drift = window_drift(measured.training, measured.alike.take(rows), LIMITS, seed=seed)
        flags.append(bool(drift.flagged))
        significant += any(one.p_holm <= LIMITS.level for one in drift.features)
    assert significant <= 0.05 * WINDOWS  # whatever the size of the effect
    assert sum(map(bool, flags)) <= significant
    assert sum(alarms(flags, 2, 3)) <= 0.05 * WINDOWS


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_planted_shift_is_found(measured: Measured, share: float) -> None:
    generator = np.random.default_rng(1)
    alike = len(measured.alike)
    found = 0
    for seed in range(10):
        planted = round(share * WINDOW)
        rows = np.concatenate([
            generator.choice(alike, WINDOW - planted, replace=False),
            alike + generator.choice(OTHERS, planted, replace=False),
        ])  # fmt: skip
        drift = window_drift(measured.training, measured.mixed.take(rows), LIMITS, seed=seed)
        found += bool(drift.flagged)
    assert found == 10


def test_more_permutations_than_the_level_needs() -> None:
    """With fewer, no p-value could be below the level after Holm over all features."""
    assert 8 / (LIMITS.permutations + 1) <= LIMITS.level
