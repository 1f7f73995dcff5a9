"""`SET="key=value …"` changes any key of a job, and nothing without saying so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.config import Job, Pipeline, load_job
from training.errors import JobError


@pytest.fixture
def path(tmp_path: Path, minimal: dict[str, Any]) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(minimal))
    return file


@pytest.fixture
def stages(tmp_path: Path, minimal: dict[str, Any]) -> Path:
    file = tmp_path / "stages.yaml"
    runs = [{**minimal, "name": name} for name in ("first", "second")]
    file.write_text(yaml.safe_dump({"name": "two", "stages": runs}))
    return file


def job(path: Path, overrides: str) -> Job:
    found = load_job(path, overrides)
    assert isinstance(found, Job)
    return found


def test_values_are_read_as_yaml(path: Path) -> None:
    found = job(
        path,
        "train.learning_rate=1e-4 data.limit=100 data.packing=true train.warmup=10% "
        "adapter.kind=lora adapter.target_modules=[q_proj,v_proj] checkpoint.every='40 steps'",
    )
    assert found.train.learning_rate == 1e-4
    assert found.data.limit == 100
    assert found.data.packing is True
    assert found.train.warmup.steps(100) == 10
    assert found.adapter is not None
    assert found.adapter.target_modules == ("q_proj", "v_proj")
    assert str(found.checkpoint.every) == "40 steps"


def test_a_section_that_was_left_out(path: Path) -> None:
    assert job(path, "sharding.zero=2").sharding.zero == 2


def test_a_whole_section(path: Path) -> None:
    assert job(path, "'adapter={kind: lora, r: 3}'").adapter is not None


def test_taking_a_value_back(path: Path) -> None:
    with_adapter = "adapter.kind=lora adapter=null"
    assert job(path, with_adapter).adapter is None


@pytest.mark.parametrize("which", ["second", "1"])
def test_a_stage_by_name_or_number(stages: Path, which: str) -> None:
    found = load_job(stages, f"stages.{which}.data.limit=7")
    assert isinstance(found, Pipeline)
    assert [stage.data.limit for stage in found.stages] == [None, 7]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("train.lr=1", "Did you mean learning_rate?"),
        ("train.learning_rate", "write key=value"),
        ("=3", "write key=value"),
        ("name.deeper=3", "name: should be a valid string"),
        ("train.warmup=[", "SET train.warmup"),
        ("precision=fp64", "Choose from fp32, fp16, bf16"),
    ],
)
def test_what_cannot_be_set(path: Path, overrides: str, words: str) -> None:
    with pytest.raises(JobError) as caught:
        load_job(path, overrides)
    assert words in str(caught.value)


def test_a_stage_there_is_not(stages: Path) -> None:
    with pytest.raises(JobError, match="no entry is called 'third'"):
        load_job(stages, "stages.third.data.limit=7")


def test_overrides_of_a_document_that_is_not_a_job(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(JobError):
        load_job(path, "train.warmup=3%")


def test_an_open_quote(path: Path) -> None:
    with pytest.raises(JobError, match="--set"):
        load_job(path, "name='a")
