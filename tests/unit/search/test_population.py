"""Population-based training: who continues whose weights, and with which values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.command import run_search
from search.config import SearchSettings
from search.job_file import load_search_job
from search.local_trial import LocalRunner
from search.population import branch, schedule, stop_step, suggest_member
from search.trial_runner import PricedJob
from search.trials import distributions
from tests.run_commands import ROOT, assert_identical, changed, train_here
from tests.run_commands import Run as TrainedRun
from training.errors import JobError, RunError

SPACE = {
    "train.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
    "train.weight_decay": {"low": 0.0, "high": 0.2},
}
POPULATION = {"size": 4, "generations": 3, "exploit": 0.25}


def settings(**changes: object) -> SearchSettings:
    base = {"space": SPACE, "algorithm": "pbt", "population": POPULATION}
    return SearchSettings.model_validate({**base, **changes})


def generation(losses: list[float | None], chosen: SearchSettings) -> list[FrozenTrial]:
    """Return the trials of a generation; a member without a loss has failed."""
    trials = []
    for number, loss in enumerate(losses):
        trial = create_trial(
            state=TrialState.COMPLETE if loss is not None else TrialState.FAIL,
            value=loss,
            params={"train.learning_rate": 5e-4 * (number + 1), "train.weight_decay": 0.1},
            distributions=distributions(chosen),
        )
        trial.number = number
        trials.append(trial)
    return trials


def test_the_worst_member_continues_the_best_and_the_others_their_own() -> None:
    chosen = settings()
    first = generation([3.0, 1.0, 4.0, 2.0], chosen)
    second = [suggest_member(chosen, [*first, *first[:member]]) for member in range(4)]
    assert [suggestion.parent for suggestion in second] == [0, 1, 1, 3]
    assert second[0].values == first[0].params
    assert second[2].values != first[1].params, "it explores values near those of its parent"
    for key, parameter in chosen.space.items():
        assert parameter.low is not None and parameter.high is not None
        value = second[2].values[key]
        assert isinstance(value, float) and parameter.low <= value <= parameter.high
    again = [suggest_member(chosen, [*first, *first[:member]]) for member in range(4)]
    assert again == second
    other = suggest_member(settings(seed=1), [*first, *first[:2]])
    assert other.values != second[2].values


def test_a_member_that_failed_is_replaced_first() -> None:
    chosen = settings()
    first = generation([3.0, 1.0, None, 2.0], chosen)
    parents = [suggest_member(chosen, [*first, *first[:m]]).parent for m in range(4)]
    assert parents == [0, 1, 1, 3]
    with pytest.raises(RunError, match="all 4 members of generation 0 failed"):
        suggest_member(chosen, generation([None] * 4, chosen))


@pytest.fixture
def pbt_job(tmp_path: Path) -> Callable[..., Path]:
    def make(**changes: Any) -> Path:
        document = yaml.safe_load((ROOT / "jobs/search.yaml").read_text())
        document["search"] = {"space": SPACE, "algorithm": "pbt", "population": POPULATION}
        document = changed(document, tracking={"mlflow": False}, **changes)
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return make


def test_generations_divide_the_steps_and_the_schedule_follows_the_weights(
    pbt_job: Callable[..., Path],
) -> None:
    search = load_search_job(pbt_job(train={"max_steps": 100}))
    steps = [stop_step(search.settings, search.job, number) for number in (0, 3, 4, 8, 11)]
    assert steps == [33, 33, 67, None, None]
    trials = generation([1.0] * 12, search.settings)
    trials[9].user_attrs["parent"] = 6
    trials[6].user_attrs["parent"] = 1
    parts = schedule(search.settings, search.job, trials, 9)
    assert [(part["trial"], part["to_step"]) for part in parts] == [(1, 33), (6, 67), (9, None)]


def test_what_cannot_change_within_a_run_is_refused_at_once(pbt_job: Callable[..., Path]) -> None:
    space = {**SPACE, "train.global_batch_size": {"choices": [4, 8]}}
    job = pbt_job(search={"space": space}, train={"max_steps": None, "keep": "best"})
    with pytest.raises(JobError) as refused:
        load_search_job(job)
    message = str(refused.value)
    for part in ("cannot change while the same weights", "train.max_steps", "train.keep"):
        assert part in message, message
    with pytest.raises(JobError, match="which other seeds cannot repeat"):
        load_search_job(pbt_job(search={"seeds": 2}))


def test_a_part_that_has_reached_its_step_is_not_trained_again(
    pbt_job: Callable[..., Path], tmp_path: Path
) -> None:
    """The search was killed after the part had ended, and before it was recorded."""
    search = load_search_job(pbt_job())
    folder = tmp_path / "trials/0001"
    (folder / "checkpoints/checkpoint-20").mkdir(parents=True)
    (folder / "checkpoints/checkpoint-20/weights").write_text("weights")
    rows = [{"step": 10, "eval_loss": 3.0}, {"step": 20, "loss": 2.0}, {"step": 20, "eval_loss": 2}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runner = LocalRunner(search.settings, "job.yaml")
    trial = runner.attach(folder, PricedJob(search.job, stop_step=20))
    assert trial is not None and trial.is_over
    outcome = trial.outcome("validation.loss")
    assert outcome is not None and outcome.value == 2.0
    assert runner.attach(folder, PricedJob(search.job, stop_step=40)) is None
    branch(folder, tmp_path / "trials/0005", search.job)
    copied = tmp_path / "trials/0005"
    assert (copied / "checkpoints/checkpoint-20/weights").read_text() == "weights"
    assert json.loads((copied / "branch.json").read_text()) == {"parent": "0001"}


@pytest.mark.slow
def test_a_member_that_keeps_its_values_has_the_weights_of_one_run(
    pbt_job: Callable[..., Path], tmp_path: Path
) -> None:
    """And one that copies another continues its weights with its own learning rate."""
    population = {"size": 2, "generations": 2, "exploit": 0.5}
    data = {"train": {"source": "builtin:python-stdlib", "limit": 12}}
    schedule_ = {"max_steps": 8, "lr_scheduler": "linear", "warmup": "0%"}
    job = pbt_job(
        train=schedule_,
        data=data,
        evaluate={"every": "none"},
        search={"population": population, "parallel": 2},
    )
    run_search(job, home=tmp_path / "searches")
    trials = (tmp_path / "searches/search/latest").resolve() / "trials"
    parents = [json.loads((trials / f"000{n}/branch.json").read_text())["parent"] for n in (2, 3)]
    kept = next(n for n, parent in enumerate(parents) if parent == f"000{n}")
    document = yaml.safe_load((trials / f"000{2 + kept}.yaml").read_text())
    straight = train_here(document, tmp_path / "straight")
    assert_identical(TrainedRun(trials / f"000{2 + kept}"), straight)
    assert parents[0] == parents[1], "the worse member copied the better one"
    copied = [json.loads(line) for line in (trials / f"000{3 - kept}/metrics.jsonl").open()]
    rates = {row["step"]: row["learning_rate"] for row in copied if "learning_rate" in row}
    own = yaml.safe_load((trials / f"000{3 - kept}.yaml").read_text())["train"]["learning_rate"]
    assert rates[5] == pytest.approx(own * (1 - 4 / 8)), "at its place in the schedule"
    assert rates[4] == pytest.approx(document["train"]["learning_rate"] * (1 - 3 / 8))
