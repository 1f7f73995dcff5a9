"""Bedrock batch inference: requests as botocore's model has them, and jobs that are begun once.

moto emulates S3; it has no CreateModelInvocationJob, so the service is emulated here, and botocore
validates each call and its answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from botocore.validate import validate_parameters
from moto import mock_aws

from preparation.synthesis import bedrock_batch
from preparation.synthesis.run import synthesize
from tests.unit.preparation.synthesis.teachers import FakeTeacher, rows_of
from training.errors import RunError
from training.judges.reply_cache import JudgeReply

ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abcdef123456"
TEACHER = {
    "kind": "bedrock_batch",
    "model": "us.amazon.nova-pro-v1:0",
    "region": "us-east-1",
    "role_arn": "arn:aws:iam::123456789012:role/batch",
    "s3_uri": "s3://batches/synthesis",
    "price": {"input": 0.5, "output": 2},
    "max_new_tokens": 100,
    "min_records": 4,
}

_SHARED = ("model", "region", "price", "max_new_tokens")


class FakeBatches:
    """S3 of moto, and Bedrock with the answers that a test gives it."""

    def __init__(self) -> None:
        self.s3 = boto3.client("s3", region_name="us-east-1")
        self.s3.create_bucket(Bucket="batches")
        self.bedrock = boto3.client("bedrock", region_name="us-east-1")
        self.stub = Stubber(self.bedrock)
        self.stub.activate()
        self.requests: list[dict[str, Any]] = []

    def client(self, name: str, region_name: str) -> Any:
        assert region_name == "us-east-1"
        return {"s3": self.s3, "bedrock": self.bedrock}[name]

    def begins(self) -> None:
        names = ("jobName", "clientRequestToken", "roleArn", "modelId", "modelInvocationType")
        names += ("inputDataConfig", "outputDataConfig")
        expected = dict.fromkeys(names, ANY)
        self.stub.add_response("create_model_invocation_job", {"jobArn": ARN}, expected)

    def has_status(self, status: str) -> None:
        job = {
            "jobArn": ARN,
            "modelId": TEACHER["model"],
            "roleArn": TEACHER["role_arn"],
            "status": status,
            "submitTime": "2026-11-01T00:00:00Z",
            "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://batches/in"}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://batches/out"}},
        }
        expected = {"jobIdentifier": ARN}
        self.stub.add_response("get_model_invocation_job", job, expected)

    def writes_output(self, failing: int = 0) -> list[dict[str, Any]]:
        """Answer the requests that are in S3, in reverse, and return them."""
        keys = [item["Key"] for item in self.s3.list_objects_v2(Bucket="batches")["Contents"]]
        (key,) = [key for key in keys if key.endswith("/input/requests.jsonl")]
        body = self.s3.get_object(Bucket="batches", Key=key)["Body"].read().decode()
        records = [json.loads(line) for line in body.splitlines()]
        lines = []
        for number, record in enumerate(reversed(records)):
            if number < failing:
                error = {"errorCode": 400, "errorMessage": "bad request"}
                lines.append(json.dumps({**record, "error": error}))
                continue
            text = record["modelInput"]["messages"][0]["content"][0]["text"]
            message = text.split("<message>\n")[1].split("\n</message>")[0]
            content = [{"text": f"<paraphrase>Kindly tell me now: {message}</paraphrase>"}]
            output = {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 100, "outputTokens": 10},
            }
            lines.append(json.dumps({**record, "modelOutput": output}))
        out = key.replace("/input/", "/output/abcdef123456/") + ".out"
        self.s3.put_object(Bucket="batches", Key=out, Body="\n".join(lines))
        return records


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatches]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        fake = FakeBatches()
        monkeypatch.setattr(boto3, "client", fake.client)
        yield fake


def section_of(fake: FakeTeacher, folder: Path, **keys: Any) -> Any:
    section = fake.section(folder, "paraphrase", rows=8, per_row=1)
    document = section.model_dump(mode="json", exclude_none=True)
    return type(section).model_validate(document | {"teacher": TEACHER} | keys)


def test_a_round_is_one_job_which_a_resumed_run_waits_for(
    teacher: FakeTeacher, batches: FakeBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = section_of(teacher, tmp_path)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bedrock_batch.time, "sleep", interrupted)
    batches.begins()
    batches.has_status("InProgress")
    with pytest.raises(KeyboardInterrupt):
        synthesize(section, tmp_path / "out")
    records = batches.writes_output()
    assert len(records) == 8 and len({record["recordId"] for record in records}) == 8
    runtime = boto3.session.Session().client("bedrock-runtime", region_name="us-east-1")
    shape = runtime.meta.service_model.operation_model("Converse").input_shape
    for record in records:
        assert record["recordId"].isalnum()
        validate_parameters({"modelId": "m", **record["modelInput"]}, shape)
    # No second job is begun: the stub would refuse it.
    batches.has_status("Completed")
    rows = rows_of(synthesize(section, tmp_path / "out"))
    batches.stub.assert_no_pending_responses()
    assert len(rows) == 8 and {row["synthesized_by"] for row in rows} == {TEACHER["model"]}
    spent = json.loads((tmp_path / "out/spent.json").read_text())
    assert spent["usd"] == pytest.approx(8 * (100 * 0.5 + 10 * 2) / 1e6)
    assert synthesize(section, tmp_path / "out")
    assert not teacher.questions


def test_the_parameters_are_those_of_the_service(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = section_of(teacher, tmp_path).teacher
    request = bedrock_batch.job_request(section, "0" * 32)
    client = boto3.client("bedrock", region_name="us-east-1")
    shape = client.meta.service_model.operation_model("CreateModelInvocationJob").input_shape
    validate_parameters(request, shape)
    for name, value in (("jobName", request["jobName"]), ("roleArn", section.role_arn)):
        limits = shape.members[name].metadata
        assert limits["min"] <= len(value) <= limits["max"]
    assert request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"].startswith(
        "s3://batches/synthesis/"
    )


def test_failed_requests_are_named_and_the_others_recorded(
    teacher: FakeTeacher, batches: FakeBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = section_of(teacher, tmp_path)
    monkeypatch.setattr(
        bedrock_batch.time, "sleep", lambda seconds: batches.writes_output(failing=3)
    )
    batches.begins()
    batches.has_status("Scheduled")
    batches.has_status("PartiallyCompleted")
    with pytest.raises(RunError, match=r"3 of 8 requests .* no reply .*bad request.*bedrock"):
        synthesize(section, tmp_path / "out")
    assert len((tmp_path / "out/journal.jsonl").read_text().splitlines()) == 5
    # Single calls of the same model use the same journal, and have only three requests to make.
    single = {key: value for key, value in TEACHER.items() if key in _SHARED}
    server = {"kind": "bedrock", "url": None, "concurrency": 1, "retries": 0}
    called: list[int] = []

    class Counting:
        def generate_replies(self, questions: list[Any], on_reply: Any) -> None:
            called.append(len(questions))
            for question in questions:
                on_reply(question, JudgeReply("<paraphrase>In short: 1</paraphrase>"))

    monkeypatch.setattr("preparation.synthesis.models.HttpJudge", Counting)
    monkeypatch.setattr("preparation.synthesis.models.build_judge", lambda *_: Counting())
    synthesize(section_of(teacher, tmp_path, teacher=single | server), tmp_path / "out")
    assert called == [3]


@pytest.mark.parametrize("status", ["Failed", "Stopped", "Expired"])
def test_a_failed_job_is_an_error(
    teacher: FakeTeacher, batches: FakeBatches, tmp_path: Path, status: str
) -> None:
    batches.begins()
    batches.has_status(status)
    with pytest.raises(RunError, match=rf"/abcdef123456 has the status {status}"):
        synthesize(section_of(teacher, tmp_path), tmp_path / "out")


def test_rounds_outside_the_quotas_and_the_limit_begin_no_job(
    teacher: FakeTeacher, batches: FakeBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = section_of(teacher, tmp_path, teacher=TEACHER | {"min_records": 100})
    with pytest.raises(RunError, match=r"at least 100 requests .* this round has 8"):
        synthesize(few, tmp_path / "few")
    monkeypatch.setattr(bedrock_batch, "MAX_FILE_BYTES", 100)
    with pytest.raises(RunError, match=r"takes 50,000 of 100 bytes"):
        synthesize(section_of(teacher, tmp_path), tmp_path / "large")
    assert "Contents" not in batches.s3.list_objects_v2(Bucket="batches")


def test_refusals_of_aws_are_explained(
    teacher: FakeTeacher, batches: FakeBatches, tmp_path: Path
) -> None:
    batches.stub.add_client_error("create_model_invocation_job", "AccessDeniedException", "no role")
    with pytest.raises(RunError, match=r"batch job in us-east-1 failed: .*no role.*to resume"):
        synthesize(section_of(teacher, tmp_path), tmp_path / "out")
