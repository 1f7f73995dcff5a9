"""Suggestions: reproducible whatever ends first, and better than random ones."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.config import SearchSettings, Value
from search.suggestions import should_stop, suggest
from search.trials import TrialJournal, TrialOutcome

SPACE = {
    "lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "width": {"low": 8, "high": 64, "step": 8},
    "kind": {"choices": ["a", "b", "c"]},
}


def settings(**changes: object) -> SearchSettings:
    return SearchSettings.model_validate({"space": SPACE, "trials": 20, **changes})


def loss(values: dict[str, Value]) -> float:
    """Return a quadratic with its least value of 0 at 1e-3, 40 and b."""
    lr, width, kind = values["lr"], values["width"], values["kind"]
    assert isinstance(lr, float) and isinstance(width, int)
    return (math.log10(lr) + 3) ** 2 + ((width - 40) / 16) ** 2 + (kind != "b")


def run(folder: Path, chosen: SearchSettings, order: random.Random) -> list[dict[str, Value]]:
    """Run a search whose trials end in a random order, and return their values by number."""
    folder.mkdir(exist_ok=True)
    journal = TrialJournal(folder, "test", chosen)
    while len(journal.trials) < chosen.num_trials:
        current = []
        for _ in range(min(chosen.parallel, chosen.num_trials - len(journal.trials))):
            current.append(journal.start(suggest(chosen, journal.trials)))
        order.shuffle(current)
        for trial in current:
            journal.finish(trial, TrialOutcome(TrialState.COMPLETE, loss(trial.params)))
    return [trial.params for trial in journal.trials]


@pytest.mark.parametrize("algorithm", ["tpe", "gp", "random", "grid"])
def test_trials_do_not_depend_on_which_ends_first(tmp_path: Path, algorithm: str) -> None:
    space = {**SPACE, "lr": {"choices": [1e-4, 1e-3]}} if algorithm == "grid" else SPACE
    same = {"space": space, "algorithm": algorithm, "parallel": 3, "trials": 7}
    first = run(tmp_path / "a", settings(**same), random.Random(1))
    assert first == run(tmp_path / "b", settings(**same), random.Random(2))
    other = settings(**{**same, "trials": 2}, seed=1)
    assert first[:2] != run(tmp_path / "c", other, random.Random(1))


def test_a_search_that_was_cut_off_resumes_with_the_same_trials(tmp_path: Path) -> None:
    chosen = settings(parallel=2, trials=14)
    whole = run(tmp_path / "whole", chosen, random.Random(1))
    run(tmp_path / "cut", settings(parallel=2, trials=6), random.Random(3))
    assert run(tmp_path / "cut", chosen, random.Random(4)) == whole


def test_tpe_beats_random_at_equal_trials(tmp_path: Path) -> None:
    def best(algorithm: str, seed: int) -> float:
        chosen = settings(algorithm=algorithm, seed=seed, trials=20)
        values = run(tmp_path / f"{algorithm}{seed}", chosen, random.Random(0))
        return min(map(loss, values))

    seeds = range(4)
    tpe = statistics.fmean(best("tpe", seed) for seed in seeds)
    assert tpe < 0.7 * statistics.fmean(best("random", seed) for seed in seeds)


@pytest.mark.parametrize("rule", ["median", "asha", "hyperband"])
def test_a_hopeless_trial_is_ended_and_a_good_one_is_not(tmp_path: Path, rule: str) -> None:
    chosen = settings(early_stopping=rule, trials=20)
    journal = TrialJournal(tmp_path, "test", chosen)
    for number in range(12):
        trial = journal.start(suggest(chosen, journal.trials))
        for evaluation in range(1, 10):
            journal.report(trial, evaluation, 5 - 0.3 * evaluation + 0.01 * number)
        journal.finish(trial, TrialOutcome(TrialState.COMPLETE, 2.3))
    number = journal.start(suggest(chosen, journal.trials)).number

    def ended(level: float) -> bool:
        return any(
            should_stop(
                chosen,
                journal.trials,
                number,
                {one: level - 0.3 * one for one in range(1, evaluation + 1)},
            )
            for evaluation in range(1, 9)
        )

    assert ended(9.0)
    assert not ended(4.0)
    assert not should_stop(settings(), journal.trials, number, {1: 9.0})


def test_the_journal_keeps_values_losses_and_reasons(tmp_path: Path) -> None:
    journal = TrialJournal(tmp_path, "test", settings())
    trial = journal.start({"lr": 1e-3, "width": 8, "kind": "a"}, kind="baseline")
    journal.report(trial, 1, 4.0)
    journal.finish(trial, TrialOutcome(TrialState.FAIL, message="out of memory"))
    (read,) = TrialJournal(tmp_path, "test", settings()).trials
    assert read.state == TrialState.FAIL and read.intermediate_values == {1: 4.0}
    assert read.user_attrs["message"] == "out of memory" and read.user_attrs["kind"] == "baseline"
