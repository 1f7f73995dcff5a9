"""Sources of the job, their precedence, and the message if there is none."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from containers.entrypoint.errors import StartError
from containers.entrypoint.job_request import JobRequest, read_job_request
from containers.entrypoint.opt_ml import MlFolder
from tests.containers.image_layout import lay_out
from training.config.load import load_job

JOB = {"name": "n", "model": {"source": "x"}, "data": {"train": "y"}, "method": {"kind": "sft"}}


def request(root: Path, given: Path | None = None, **environment: str) -> JobRequest:
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_job_request(given, (), environment, MlFolder(root), scratch)


def test_job_from_channel(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", JOB)
    assert request(root).job == root / "input/data/job/job.yaml"


def test_job_from_hyperparameter(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", hyperparameters={"job": yaml.safe_dump(JOB)})
    assert yaml.safe_load(request(root).job.read_text()) == JOB
    root = lay_out(tmp_path / "ml", hyperparameters={"job": "jobs/quickstart.yaml"})
    assert request(root).job == Path("jobs/quickstart.yaml")


def test_precedence(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", JOB, hyperparameters={"job": "hyper.yaml"})
    assert request(root, Path("line.yaml"), TEMPER_JOB="env.yaml").job == Path("line.yaml")
    assert request(root, TEMPER_JOB="env.yaml").job == Path("env.yaml")
    assert request(root).job == Path("hyper.yaml")


def test_hyperparameters_override_the_job(tmp_path: Path) -> None:
    """SageMaker's tuning passes strings, JSON of its SDK, and keys that are not the job's."""
    parameters = {
        "train.learning_rate": "0.0003",
        "precision": '"bf16"',
        "evaluate.samples": '["a b", "it\'s"]',
        "set": "data.limit=5 train.seed=7",
        "sagemaker_job_name": '"x"',
        "_tuning_objective_metric": "loss",
    }
    root = lay_out(tmp_path / "ml", JOB, hyperparameters=parameters)
    found = request(root)
    job: Any = load_job(found.job, found.set_option)
    assert job.train.learning_rate == 3e-4
    assert job.precision == "bf16"
    assert [sample.prompt for sample in job.evaluate.samples] == ["a b", "it's"]
    assert (job.data.limit, job.train.seed) == (5, 7)
    assert len(shlex.split(found.set_option)) == 5


@pytest.mark.parametrize("key", ["a b", "--help", "x=y", "1"])
def test_invalid_hyperparameters(tmp_path: Path, key: str) -> None:
    root = lay_out(tmp_path / "ml", JOB, hyperparameters={key: "1"})
    with pytest.raises(StartError, match="hyper-parameters name keys of the job") as caught:
        request(root)
    assert repr(key) in str(caught.value)
    assert caught.value.exit_code == 2


def test_no_job(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    root = lay_out(tmp_path / "ml", channels={"train": rows})
    with pytest.raises(StartError, match=r"no job was given.*channels here: train") as caught:
        request(root)
    assert caught.value.exit_code == 2
    with pytest.raises(StartError, match="no job was given"):
        request(tmp_path / "nothing")


def test_two_jobs(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", JOB)
    (root / "input/data/job/other.yaml").write_text("{}")
    with pytest.raises(StartError, match=r"must hold one job file, and has job.yaml, other.yaml"):
        request(root)
