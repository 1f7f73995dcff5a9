"""Job files with `search:`: what is refused, and what a trial's job is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.job_file import load_search_job
from search.storage import search_folder
from tests.run_commands import ROOT, changed
from training.config import Job, Pipeline, load_job
from training.config.adapters import Lora
from training.errors import JobError

JOB: dict[str, Any] = yaml.safe_load((ROOT / "jobs/search.yaml").read_text())


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def problems(folder: Path, **search: Any) -> str:
    with pytest.raises(JobError) as raised:
        load_search_job(written(folder, changed(JOB, search=search)))
    return str(raised.value)


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    document = changed(JOB, train={"learning_rate": -1}, search={"trails": 3, "parallel": 0})
    with pytest.raises(JobError) as raised:
        load_search_job(written(tmp_path, document))
    said = str(raised.value)
    assert "search.trails" in said and "search.parallel" in said and "train.learning_rate" in said


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({}, "needs choices: [a, b], or low and high"),
        ({"low": 2, "high": 1}, "low must be less than high, not 2 and 1"),
        ({"low": 0, "high": 1, "log": True}, "log needs a low above 0, not 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "has log, or a step, not both"),
        ({"choices": [4]}, "needs two choices or more"),
        ({"choices": [4, 4]}, "has a choice twice"),
        ({"choices": [4, 8], "low": 1}, "has choices, or low and high, not both"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(
    tmp_path: Path, parameter: dict[str, Any], message: str
) -> None:
    assert message in problems(tmp_path, space={"train.learning_rate": parameter})


def test_every_end_of_the_space_is_checked_before_a_trial_starts(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        space={
            "train.learning_rate": {"low": -1.0, "high": 1.0},
            "train.lr_scheduler": {"choices": ["cosine", "cosinus"]},
            "train.sped": {"choices": [1, 2]},
        },
    )
    assert "search.space.train.learning_rate: -1.0 is refused" in said
    assert "search.space.train.lr_scheduler: cosinus is refused" in said
    assert "search.space.train.sped: 1 is refused" in said


def test_an_empty_space_and_a_grid_without_an_end_are_refused(tmp_path: Path) -> None:
    assert "is empty: name a key and its values" in problems(tmp_path, space={})
    said = problems(tmp_path, algorithm="grid")
    assert "algorithm grid needs choices or a step for train.learning_rate" in said


def test_an_objective_that_the_job_does_not_measure_is_refused(tmp_path: Path) -> None:
    job = changed(JOB, data={"validation": "none"}, evaluate={"every": "none"})
    with pytest.raises(JobError) as raised:
        load_search_job(written(tmp_path, job))
    assert "the job measures no held-out rows" in str(raised.value)
    said = problems(tmp_path, objective={"gates": [{"metric": "forgetting.change", "max": 0.1}]})
    assert "the job measures no forgetting" in said
    said = problems(tmp_path, objective={"metric": "validation.token_accuracy"})
    assert "early_stopping compares held-out losses" in said


def test_training_a_search_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="Run it: temper search"):
        load_job(written(tmp_path, JOB))
    plain = {key: value for key, value in JOB.items() if key != "search"}
    with pytest.raises(JobError, match="the job has no such section"):
        load_search_job(written(tmp_path, plain))


def test_a_trial_has_the_values_and_the_baseline_is_the_job_as_written(tmp_path: Path) -> None:
    search = load_search_job(written(tmp_path, JOB))
    assert search.baseline == {
        "train.learning_rate": 1e-3,
        "train.global_batch_size": 8,
        "train.weight_decay": 0.0,
    }
    trial = search.trial_job({"train.learning_rate": 0.01, "train.global_batch_size": 4})
    assert isinstance(trial, Job)
    assert (trial.train.learning_rate, trial.train.global_batch_size) == (0.01, 4)
    outside = changed(JOB, train={"learning_rate": 0.5})
    assert load_search_job(written(tmp_path, outside)).baseline is None


def test_keys_of_a_stage_are_named_by_the_stage(tmp_path: Path) -> None:
    stages = yaml.safe_load((ROOT / "jobs/quickstart.yaml").read_text())
    stages["search"] = {"space": {"stages.answer.adapter.r": {"choices": [4, 32]}}}
    search = load_search_job(written(tmp_path, stages))
    assert search.baseline == {"stages.answer.adapter.r": 32}
    trial = search.trial_job({"stages.answer.adapter.r": 4})
    assert isinstance(trial, Pipeline)
    adapter = trial.stages[1].adapter
    assert isinstance(adapter, Lora) and adapter.r == 4


def test_the_folder_depends_on_what_decides_the_trials(tmp_path: Path) -> None:
    def folder(**settings: Any) -> Path:
        document = changed(JOB, search=settings)
        return search_folder(load_search_job(written(tmp_path, document)), tmp_path)

    assert folder() == folder(trials=100) == folder(max_time="9h") == folder(seeds=0)
    assert len({folder(), folder(seed=1), folder(parallel=4), folder(algorithm="random")}) == 4
