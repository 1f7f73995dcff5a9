"""Search whose trials are SageMaker training jobs, against the emulated account."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.environment import EmulatedEnvironment
from launch.errors import InvalidOptionError, NotConfirmed
from launch.submit import SubmitRequest
from search import command, report, seed_runs, targets
from search import run as search_run
from search.budget import FILE
from training.errors import Interrupted, JobError

SEARCH: dict[str, Any] = {
    "space": {"train.learning_rate": {"low": 1.0e-5, "high": 1.0e-1, "log": True}},
    "trials": 4,
    "parallel": 2,
    "seeds": 1,
    "max_cost": "30 USD",
}


@pytest.fixture
def search_job(
    make_request: Callable[..., SubmitRequest],
    emulated: EmulatedEnvironment,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Return a factory of jobs of a search whose trials count."""
    monkeypatch.setattr(search_run, "_POLL_S", 0.05)
    monkeypatch.setattr(seed_runs, "_POLL_S", 0.05)
    monkeypatch.setitem(targets.POLL_S, "sagemaker", 0.1)
    monkeypatch.setattr(report, "_MIN_TRIALS", 1000)  # figures take a second

    def make(steps: int = 5, **changes: Any) -> Path:
        path = make_request(steps=steps, name="tune").job
        document = yaml.safe_load(path.read_text())
        document["data"]["validation"] = {"split": 0.5}
        document["evaluate"] = {"every": "5 steps"}
        document["train"]["learning_rate"] = 1.0e-2
        document["search"] = {**SEARCH, **changes}
        path.write_text(yaml.safe_dump(document))
        return path

    return make


def start(job: Path, home: Path, **options: Any) -> dict[str, Any]:
    command.run_search(job, home=home, target="sagemaker", env="dev", **options)
    found: dict[str, Any] = json.loads((home / "tune/latest/result.json").read_text())
    return found


@pytest.mark.slow
def test_trials_run_as_training_jobs_and_their_billed_time_is_settled(
    search_job: Callable[..., Path],
    emulated: EmulatedEnvironment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = start(search_job(), tmp_path / "searches")
    calls = emulated.service.calls.count("CreateTrainingJob")
    assert calls == 4 + 1 + (result["trial"] != 0)
    folder = tmp_path / "searches/tune/latest"
    costs = json.loads((folder / FILE).read_text())
    assert len(costs) == calls and all(cost["settled"] is not None for cost in costs.values())
    assert result["cost_usd"] == pytest.approx(sum(c["settled"] for c in costs.values()), abs=1e-3)
    assert json.loads((folder / "best/model/counted.json").read_text()) == {"steps": 5}
    said = capsys.readouterr().out
    assert re.search(r"a trial is ended after 30 min 01 s and costs at most 0\.88 USD", said)
    assert "each trial: 1 × ml.g5.2xlarge" in said
    for name in costs:
        record = json.loads((folder / name / "launch.json").read_text())
        job = emulated.service.job(record["attempts"][0]["name"]).request
        assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 1801}


@pytest.mark.slow
def test_a_killed_search_finds_its_jobs_by_name_and_pays_for_none_twice(
    search_job: Callable[..., Path],
    emulated: EmulatedEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search dies after CreateTrainingJob was answered, and its jobs run on."""
    job = search_job(seeds=0, trials=3)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search_run.Search, "_watch", die)
        patch.setattr(search_run.Search, "_stop_all", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            start(job, tmp_path / "searches")
    assert emulated.service.calls.count("CreateTrainingJob") == 2
    folder = tmp_path / "searches/tune/latest"
    reserved = json.loads((folder / FILE).read_text())
    assert {cost["settled"] for cost in reserved.values()} == {None}
    for name in reserved:  # killed before the answer of CreateTrainingJob was written down
        record = folder / name / "launch.json"
        record.write_text(re.sub(r'"handle": "[^"]*"', '"handle": ""', record.read_text()))
    start(job, tmp_path / "searches")
    assert emulated.service.calls.count("CreateTrainingJob") == 3
    costs = json.loads((folder / FILE).read_text())
    assert len(costs) == 3 and None not in {cost["settled"] for cost in costs.values()}


@pytest.mark.slow
def test_hopeless_trials_are_stopped_by_their_log(
    search_job: Callable[..., Path], emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    """Losses reach the search by the lines that the job logs."""
    rates = {"train.learning_rate": {"choices": [1.0, 1.0e-2]}}
    job = search_job(
        steps=150, space=rates, early_stopping="asha", trials=2, parallel=1, seeds=0, seed=1
    )
    start(job, tmp_path / "searches", overrides="search.algorithm=grid")
    statuses = [one.describe()["TrainingJobStatus"] for one in emulated.service._jobs.values()]
    assert statuses == ["Completed", "Stopped"]


def test_a_limit_below_one_trial_is_refused_with_the_price_of_one(
    search_job: Callable[..., Path], emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    with pytest.raises(JobError) as refused:
        start(search_job(max_cost="0.2 USD"), tmp_path / "searches")
    message = str(refused.value)
    assert re.search(r"one trial can cost 0\.88 USD, and 2 runs with other seeds 1\.77", message)
    assert "Set it to 2.66 USD or more" in message, message
    assert "CreateTrainingJob" not in emulated.service.calls


def test_nothing_is_paid_for_unasked(
    search_job: Callable[..., Path],
    emulated: EmulatedEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("YES", "")
    with pytest.raises(NotConfirmed, match=r"Start trials of tune for at most 30\.00 USD\?"):
        start(search_job(), tmp_path / "searches")
    assert "CreateTrainingJob" not in emulated.service.calls


@pytest.mark.slow
def test_the_search_ends_where_a_further_trial_could_exceed_the_limit(
    search_job: Callable[..., Path],
    emulated: EmulatedEnvironment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two trials fit at the same time by what they may cost, and in turn by what they did cost."""
    start(search_job(max_cost="2 USD", seeds=0, trials=3, parallel=3), tmp_path / "searches")
    assert emulated.service.calls.count("CreateTrainingJob") == 3
    assert "max_cost reached" not in capsys.readouterr().out
    most = max_running(emulated)
    assert most == 2


def max_running(emulated: EmulatedEnvironment) -> int:
    """Return how many jobs ran at the same time."""
    spans = [job.describe() for job in emulated.service._jobs.values()]
    starts = [(span["CreationTime"], 1) for span in spans]
    ends = [(span["TrainingEndTime"], -1) for span in spans]
    running = most = 0
    for _, change in sorted(starts + ends):
        running += change
        most = max(most, running)
    return most


@pytest.mark.slow
def test_a_stopped_search_stops_its_jobs_and_resumes_them(
    search_job: Callable[..., Path],
    emulated: EmulatedEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = search_job(steps=100, trials=2, seeds=0)
    step = search_run.Search._step

    def stop(loop: search_run.Search, clock: Any) -> bool:
        going = step(loop, clock)
        jobs = emulated.service._jobs.values()
        if len(jobs) == 2 and all(one.describe()["FinalMetricDataList"] for one in jobs):
            loop._signals._note(15, None)
        return going

    with monkeypatch.context() as patch:
        patch.setattr(search_run.Search, "_step", stop)
        with pytest.raises(Interrupted):
            start(job, tmp_path / "searches")
    statuses = {one.describe()["TrainingJobStatus"] for one in emulated.service._jobs.values()}
    assert statuses == {"Stopped"}
    start(job, tmp_path / "searches", overrides="search.parallel=2")
    assert emulated.service.calls.count("CreateTrainingJob") == 4


@pytest.mark.slow
def test_the_tuning_service_searches_with_the_same_file(
    search_job: Callable[..., Path],
    emulated: EmulatedEnvironment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The job is created once, its trials are read, and the best values are trained again."""
    job = search_job(algorithm="sagemaker-bayesian", trials=4, max_cost="5 USD")
    result = start(job, tmp_path / "searches")
    said = capsys.readouterr().out
    assert "max_cost allows for 3 of 4 trials" in said
    calls = emulated.service.calls
    assert calls.count("CreateHyperParameterTuningJob") == 1
    folder = tmp_path / "searches/tune/latest"
    name = json.loads((folder / "tuning_job.json").read_text())["name"]
    assert len(name) <= 32 and name.startswith("temper-dev-tune-")
    described = emulated.service.tuning.describe({"HyperParameterTuningJobName": name})
    best = described["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert (result["trials"], result["value"]) == (3, best)
    assert (folder / "best/model/counted.json").exists()
    assert len(result["seeds"]["best"]) == 2
    costs = json.loads((folder / FILE).read_text())
    assert {name: cost["settled"] is not None for name, cost in costs.items()} == {
        "tuning job": True,
        f"seeds/trial-{result['trial']:04d}/seed-1": True,
    }
    again = start(job, tmp_path / "searches")
    assert again == result and calls.count("CreateHyperParameterTuningJob") == 1


def test_a_grid_that_max_cost_cannot_pay_for_is_refused(
    search_job: Callable[..., Path], emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    job = search_job(
        space={"train.learning_rate": {"choices": [1.0e-2, 1.0e-3, 1.0e-4]}},
        algorithm="sagemaker-grid",
        max_cost="2 USD",
        seeds=0,
    )
    with pytest.raises(JobError, match=r"allows for 2 of the 3 combinations.*2\.65 USD or more"):
        start(job, tmp_path / "searches")
    assert "CreateHyperParameterTuningJob" not in emulated.service.calls


def test_a_service_search_needs_its_account(search_job: Callable[..., Path]) -> None:
    job = search_job(algorithm="sagemaker-random")
    with pytest.raises(InvalidOptionError, match="add --target sagemaker"):
        command.run_search(job, home=job.parent)
