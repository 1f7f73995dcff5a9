"""Several processes that run trials of one search in its folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from search.budget import FILE, SearchBudget
from search.claims import TrialClaims
from search.clock import SearchClock
from search.config import SearchSettings
from search.job_file import load_search_job
from search.local_trial import LocalRunner
from search.run import Search
from search.run_metrics import metrics_outcome
from search.trial_runner import PricedJob, Trial
from search.trials import TrialOutcome
from tests.run_commands import ROOT, changed
from training.config import Job, Pipeline

SPENDER = """
import sys, random
from pathlib import Path
from search.budget import SearchBudget

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
budget = SearchBudget(folder, 10.0)
for number in range(40):
    name = f"trials/{seed}-{number}"
    if budget.reserve(name, 0.7):
        print(name)
        if chance.random() < 0.7:
            budget.settle(name, 0.7 * chance.random())
"""


class StepTrial:
    """Trial whose result depends on its number and that ends when the test says."""

    stopped_early = False
    seconds = 1.0

    def __init__(self, number: int):
        self.number, self.is_over = number, False
        self.losses: dict[int, float] = {}

    def stop(self, *, early: bool = False) -> None:
        self.is_over = True

    def wait(self) -> None:
        pass

    def outcome(self, metric: str) -> TrialOutcome:
        return metrics_outcome({metric: 1.0 + self.number * 7 % 5}, metric, 1.0)

    def cost_usd(self, before: float) -> float | None:
        return before + 0.5


class StepRunner(LocalRunner):
    """Runner of such trials, which notes those that it starts."""

    def __init__(self, settings: SearchSettings, source: str):
        super().__init__(settings, source)
        self.started: list[StepTrial] = []

    def price(self, job: Job | Pipeline) -> PricedJob:
        return PricedJob(job, most_usd=1.0)

    def start(self, folder: Path, job: PricedJob) -> Trial:
        self.started.append(StepTrial(int(folder.name)))
        return self.started[-1]


@pytest.fixture
def clock(tmp_path: Path) -> SearchClock:
    return SearchClock(tmp_path, None)


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., tuple[Search, StepRunner]]:
    """Return a factory of processes that share the folder of a search."""
    document = yaml.safe_load((ROOT / "jobs/search.yaml").read_text())

    def make(slots: int | None = 1, **settings: object) -> tuple[Search, StepRunner]:
        defaults = {"trials": 6, "parallel": 2, "early_stopping": "none", "seeds": 0}
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(changed(document, search={**defaults, **settings})))
        loaded = load_search_job(path)
        runner = StepRunner(loaded.settings, str(path))
        return Search(loaded, tmp_path, lambda line: None, runner, 0.0, slots), runner

    return make


def values(search: Search) -> list[dict[str, object]]:
    return [trial.params for trial in search.journal.trials]


def finish(runner: StepRunner) -> None:
    for trial in runner.started:
        trial.is_over = True


def test_two_processes_share_each_round_and_get_the_trials_of_one(
    join: Callable[..., tuple[Search, StepRunner]], tmp_path: Path, clock: SearchClock
) -> None:
    (one, of_one), (other, of_other) = join(), join()
    while one._step(clock) | other._step(clock):
        finish(of_one)
        finish(of_other)
    numbers = [[trial.number for trial in runner.started] for runner in (of_one, of_other)]
    assert sorted(numbers[0] + numbers[1]) == [0, 1, 2, 3, 4, 5]
    assert len(numbers[0]) == len(numbers[1]) == 3
    shared = values(one)
    for path in tmp_path.iterdir():
        if path.is_file():
            path.unlink()
    alone, of_alone = join(slots=None)
    while alone._step(clock):
        finish(of_alone)
    assert values(alone) == shared


def test_the_trial_of_a_process_that_died_is_taken_over(
    join: Callable[..., tuple[Search, StepRunner]], clock: SearchClock
) -> None:
    (one, of_one), (other, of_other) = join(), join()
    assert one._step(clock) and other._step(clock)
    finish(of_other)
    assert other._step(clock), "it waits for the trial of the other"
    assert [trial.number for trial in of_other.started] == [1]
    one._claims._held[0].close()  # as the kernel does when the process dies
    other._step(clock)
    assert [trial.number for trial in of_other.started] == [1, 0]
    assert [trial.number for trial in of_one.started] == [0]


def test_a_process_waits_for_the_money_that_another_has_reserved(
    join: Callable[..., tuple[Search, StepRunner]], tmp_path: Path, clock: SearchClock
) -> None:
    limits = {"max_cost": "1.6 USD", "usd_per_hour": 1.0}
    (one, of_one), (other, of_other) = join(**limits), join(**limits)
    assert one._step(clock) and other._step(clock)
    assert len(of_one.started) == 1 and not of_other.started
    finish(of_one)
    while one._step(clock) | other._step(clock):
        assert one.budget.most_usd <= 1.6
        finish(of_one)
        finish(of_other)
    assert len(of_one.started) + len(of_other.started) == 2, "0.5 settled, 1.0 for each further"
    assert one.journal.trials[2].state == TrialState.RUNNING, "left for a higher limit"


def test_the_limit_holds_for_processes_that_spend_at_the_same_time(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(tmp_path), str(seed)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for seed in range(3)
    ]  # fmt: skip
    reserved = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    entries = json.loads((tmp_path / FILE).read_text())
    assert sorted(entries) == sorted(name for names in reserved for name in names)
    assert 5 < SearchBudget(tmp_path, 10.0).most_usd <= 10.0


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from search.claims import TrialClaims\n"
        "claims = TrialClaims(Path(sys.argv[1])); print(claims.take(3), flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    claims = TrialClaims(tmp_path)
    assert not claims.take(3) and claims.is_taken(3)
    assert claims.holder.startswith(f"{holder.pid} on ")
    holder.kill()
    holder.communicate()
    assert not claims.is_taken(3) and claims.take(3) and claims.take(3)
    assert not claims.holder, "its own claims are not another's"
