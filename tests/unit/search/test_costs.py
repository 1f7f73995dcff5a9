"""Dollars of a search: never more than its limit, however often it is killed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.budget import SearchBudget
from search.job_file import SearchJob, load_search_job
from search.local_trial import LocalRunner
from search.prices import STOP_S
from search.quote import quote_search
from search.remote_trial import held_out_losses
from tests.run_commands import ROOT, changed
from training.errors import JobError


class Account:
    """Account that charges for jobs, whatever happens to the process that started them."""

    def __init__(self, chance: random.Random):
        self._chance = chance
        self.charged: dict[str, float] = {}

    def run(self, trial: str, most: float) -> None:
        cost = most * self._chance.random()
        self.charged[trial] = self.charged.get(trial, 0.0) + cost


def search_with_kills(folder: Path, seed: int) -> tuple[float, int]:
    """Return what was charged for a search with a limit of 10, and the number of its trials.

    Each of its steps may be the last one of a process.
    """
    chance = random.Random(seed)
    account = Account(chance)
    done: set[str] = set()
    for _ in range(200):
        ledger = SearchBudget(folder, 10.0)
        for number in range(50):
            trial = f"trials/{number:04d}"
            if trial in done:
                continue
            most = 1.0 + (number % 3)
            known = chance.random() < 0.5  # an account tells what a job cost; a cluster does not
            spent = account.charged.get(trial, 0.0) if known else None
            if not ledger.reserve(trial, most, spent=spent):
                return sum(account.charged.values()), len(done)
            if chance.random() < 0.2:
                break  # killed before the job was created
            account.run(trial, most)
            if chance.random() < 0.3:
                break  # killed while the job ran
            ledger.settle(trial, account.charged[trial] if known else None)
            if chance.random() < 0.8:
                done.add(trial)
            else:
                break  # stopped from outside: the trial is resumed
    raise AssertionError("the limit was never reached")


def test_the_limit_holds_however_often_the_search_is_killed(tmp_path: Path) -> None:
    folders = [tmp_path / str(seed) for seed in range(60)]
    for folder in folders:
        folder.mkdir()
    results = [search_with_kills(folder, seed) for seed, folder in enumerate(folders)]
    assert max(charged for charged, _ in results) <= 10.0
    assert max(trials for _, trials in results) > 5, "what was not spent can be spent again"


def test_a_settled_trial_frees_what_it_did_not_cost(tmp_path: Path) -> None:
    ledger = SearchBudget(tmp_path, 3.0)
    assert ledger.reserve("a", 2.0)
    assert not ledger.reserve("b", 2.0)
    ledger.settle("a", 0.5)
    assert not ledger.reserve("b", 2.0, kept_usd=1.0)
    assert SearchBudget(tmp_path, 3.0).reserve("b", 2.0)


@pytest.fixture
def make_search(tmp_path: Path) -> Callable[..., SearchJob]:
    def make(**settings: Any) -> SearchJob:
        document = yaml.safe_load((ROOT / "jobs/search.yaml").read_text())
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(changed(document, search=settings)))
        return load_search_job(path)

    return make


def test_a_machine_without_a_price_has_no_limit_in_dollars(
    make_search: Callable[..., SearchJob], tmp_path: Path
) -> None:
    search = make_search(max_cost="5 USD")
    runner = LocalRunner(search.settings, "job.yaml")
    with pytest.raises(JobError, match=r"it names no instance\. Add search\.usd_per_hour"):
        quote_search(search, runner, SearchBudget(tmp_path, 5.0))


def test_the_price_of_a_machine_that_is_named_limits_its_trials(
    make_search: Callable[..., SearchJob], tmp_path: Path
) -> None:
    search = make_search(max_cost="5 USD", usd_per_hour=2.0)
    priced = LocalRunner(search.settings, "job.yaml").price(search.job)
    assert priced.limit_s is not None and priced.most_usd is not None
    assert priced.most_usd == pytest.approx(2.0 * (priced.limit_s + STOP_S) / 3600)
    quote = quote_search(search, LocalRunner(search.settings, ""), SearchBudget(tmp_path, 5.0))
    assert quote.kept_usd == pytest.approx(2 * search.settings.seeds * priced.most_usd)
    assert "costs at most 0.67 USD (2.00 USD an hour)" in quote.lines[1]


def test_losses_of_the_last_stage_are_read_from_a_log() -> None:
    lines = [
        "stage 1/2 first",
        "step     10/20 | eval_loss 9.0000",
        "stage 2/2 second",
        "step     10/20 | eval_loss 2.5000 | eval_perplexity 12.18",
        "step     11/20 | loss 2.4000 | lr 1.00e-03",
        "step     10/20 | eval_loss 2.5000 | eval_perplexity 12.18",
        "step     20/20 | eval_loss 2.2500",
    ]
    assert held_out_losses(lines, 2) == {10: 2.5, 20: 2.25}
