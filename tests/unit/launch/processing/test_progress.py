"""Progress of preparations, here and on SageMaker."""

from __future__ import annotations

import datetime
import fcntl
import io
import json
from pathlib import Path

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from launch.processing.progress import processing_jobs, progress_in_s3
from launch.processing.states import describe_progress, local_preparations
from preparation.build import PLAN_FILE, build
from preparation.config.load import load_preparation
from preparation.plan import plan
from temper.cli import main
from tests.unit.preparation.test_estimate import written
from training.errors import TemperError

PLAN = {"passes": [["examine", 3], ["pairs", 20], ["write", 3]]}
KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], "pass 1 of 3 (examine): 0 of 3 tasks"),
        (["examine/completions/00000"], "pass 1 of 3 (examine): 1 of 3 tasks"),
        ([f"examine/completions/0000{n}" for n in range(3)], "pass 2 of 3 (pairs): 0 of 20 tasks"),
    ],
)
def test_progress_is_that_of_the_first_unfinished_pass(done: list[str], expected: str) -> None:
    marks = [f"x/.building-1/tasks/{mark}" for mark in done]
    assert (
        describe_progress(PLAN, [*marks, "x/.building-1/tasks/examine/logs/task.log"]) == expected
    )


def test_a_preparation_leaves_its_plan_and_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan(load_preparation(written(tmp_path, 30)))

    def fail(name: str, done: int, total: int) -> None:
        if name == "write":
            raise TemperError("stopped here")

    with pytest.raises(TemperError, match="stopped here"):
        build(planned, fail)
    (state,) = local_preparations()
    assert (state.name, state.state) == ("tidy", "interrupted")
    assert state.detail.startswith("pass 7 of 7 (write)") or "report" in state.detail
    building = Path(planned.building)
    assert [name for name, _ in json.loads((building / PLAN_FILE).read_text())["passes"]] == [
        "examine", "pairs", "clusters", "candidates", "verify", "groups", "write",
    ]  # fmt: skip
    with (building / "run.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert local_preparations()[0].state == "running"
    build(planned, lambda *_: None)
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "Preparations of data" in out
    assert f"prepared     30 of 30 rows, tidy/{planned.digest}" in out
    assert not list(Path("prepared").glob("*/.building-*"))


def test_progress_of_a_processing_job_is_read_from_s3() -> None:
    s3 = boto3.client("s3", region_name="us-east-1", **KEYS)
    folder = "prepared/tickets/.building-2"
    names = [f"{folder}/plan.json", f"{folder}/tasks/examine/completions/00002"]
    old = ["prepared/tickets/.building-1/plan.json"]
    objects = [
        {"Key": key, "LastModified": datetime.datetime(2026, 1, day)}
        for day, keys in ((1, old), (2, names))
        for key in keys
    ]
    with Stubber(s3) as stub:
        stub.add_response("list_objects_v2", {"Contents": objects})
        body = json.dumps(PLAN).encode()
        stream = StreamingBody(io.BytesIO(body), len(body))
        stub.add_response("get_object", {"Body": stream}, {"Bucket": "b", "Key": names[0]})
        assert progress_in_s3(s3, "b", "tickets") == "pass 1 of 3 (examine): 1 of 3 tasks"
        stub.add_response("list_objects_v2", {})
        assert progress_in_s3(s3, "b", "tickets") == ""


def test_processing_jobs_are_listed_with_the_reason_of_a_failure() -> None:
    sagemaker = boto3.client("sagemaker", region_name="us-east-1", **KEYS)
    jobs = [
        {
            "ProcessingJobName": name, "ProcessingJobArn": "arn:aws:sagemaker:us-east-1:1:x",
            "CreationTime": datetime.datetime(2026, 1, 1), "ProcessingJobStatus": status, **more,
        }
        for name, status, more in (
            ("dev-prepare-a-1", "Failed", {"ExitMessage": "disk full\nmore"}),
            ("dev-prepare-b-1", "InProgress", {}),
        )
    ]  # fmt: skip
    with Stubber(sagemaker) as stub:
        pages = [{"ProcessingJobSummaries": jobs[:1], "NextToken": "t"}]
        pages.append({"ProcessingJobSummaries": jobs[1:]})
        for page in pages:
            stub.add_response("list_processing_jobs", page)
        first, second = processing_jobs(sagemaker, "dev")
    assert (first.name, first.state, first.detail) == ("dev-prepare-a-1", "Failed", "disk full")
    assert second.line() == f"{'dev-prepare-b-1':<28} InProgress"
