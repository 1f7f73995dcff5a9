"""Replies of a Bedrock model by batch inference jobs.

https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html. The requests are Converse
bodies in one JSON Lines file in S3. The name and the token of a job are the digest of its requests,
so that a resumed synthesis waits for the job that it began and starts no second one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preparation.synthesis.batch_section import BedrockBatchTeacher
from preparation.synthesis.journal import OnReply
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.bedrock import converse_body, parse_converse
from training.judges.cost_ledger import CostLedger, count_characters
from training.judges.reply_cache import reply_key

MAX_RECORDS, MAX_FILE_BYTES = 50_000, 1 << 30
"""Default quotas "Records per input file per batch inference job" and "Batch inference input file
size" (https://docs.aws.amazon.com/general/latest/gr/bedrock.html)."""
_POLL_S = 60.0
_FINISHED = ("Completed", "PartiallyCompleted")
_FAILED = ("Failed", "Stopped", "Expired")


def build(section: BedrockBatchTeacher, ledger: CostLedger, folder: Path) -> BatchBackend:
    """Return the client of a teacher, with the AWS credentials of this process.

    Args:
        section: Section of the teacher.
        ledger: Account of the cost.
        folder: Folder of the synthesis.
    """
    import boto3

    bedrock = boto3.client("bedrock", region_name=section.region)
    s3 = boto3.client("s3", region_name=section.region)
    return BatchBackend(section, bedrock, s3, ledger, folder)


class BatchBackend:
    """Client that answers all questions of a round by one batch inference job.

    Args:
        section: Section of the teacher.
        bedrock: boto3 client of `bedrock`.
        s3: boto3 client of `s3`.
        ledger: Account of the cost.
        folder: Folder of the synthesis, which holds the ARNs of its jobs.
    """

    def __init__(
        self, section: BedrockBatchTeacher, bedrock: Any, s3: Any, ledger: CostLedger, folder: Path
    ):
        self._section = section
        self._bedrock = bedrock
        self._s3 = s3
        self._ledger = ledger
        self._jobs = folder / "batch-jobs.jsonl"

    def answer(self, questions: Sequence[list[Message]], on_reply: OnReply) -> None:
        """Run a job and report the replies.

        Raises:
            RunError: The round has too few or too many requests, the cost could exceed the limit,
                AWS refuses a call, the job failed, or single requests failed.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._answer(questions, on_reply)
        except (BotoCoreError, ClientError) as error:
            raise RunError(
                f"the teacher's batch job in {self._section.region} failed: {error}. Run the same "
                f"command to resume"
            ) from error

    def _answer(self, questions: Sequence[list[Message]], on_reply: OnReply) -> None:
        content = request_file(questions, self._section)
        self._check_quotas(len(questions), len(content))
        reserved = self._reserved(questions)
        arn = self._started(content)
        self._wait(arn)
        by_id = {record_id(question): question for question in questions}
        failed: list[str] = []
        for line in self._output(content):
            question = by_id.get(line["recordId"])
            if question is None:
                continue
            if "modelOutput" not in line:
                failed.append(str(line.get("error")))
                continue
            reply = parse_converse(line["modelOutput"])
            identifier = record_id(question)
            self._ledger.settle(reserved.pop(identifier), identifier, reply)
            on_reply(question, reply)
        for amount in reserved.values():
            self._ledger.settle(amount, "", None)
        if reserved:
            first = f" ({failed[0]})" if failed else ""
            raise RunError(
                f"{len(reserved):,} of {len(questions):,} requests of the batch job {arn} have no "
                f"reply{first}. The others are recorded: set teacher.kind to bedrock for the rest, "
                f"and run the same command"
            )

    def _check_quotas(self, records: int, size_bytes: int) -> None:
        """Check the number of requests and the size of their file.

        Raises:
            RunError: A quota of Bedrock is missed.
        """
        if records < self._section.min_records:
            raise RunError(
                f"a batch job takes at least {self._section.min_records} requests "
                f"(teacher.min_records, a quota of Bedrock for each model), and this round has "
                f"{records}. Set more rows, or teacher.kind: bedrock, which uses the same journal"
            )
        if records > MAX_RECORDS or size_bytes > MAX_FILE_BYTES:
            raise RunError(
                f"this round has {records:,} requests of {size_bytes:,} bytes, and the file of a "
                f"batch job takes {MAX_RECORDS:,} of {MAX_FILE_BYTES:,} bytes. Set fewer rows"
            )

    def _reserved(self, questions: Sequence[list[Message]]) -> dict[str, float]:
        """Reserve the highest possible cost of the job, and return it by request.

        Raises:
            RunError: It could exceed the limit.
        """
        reserved: dict[str, float] = {}
        try:
            for question in questions:
                amount = self._ledger.reserve(count_characters(question))
                reserved[record_id(question)] = amount
        except RunError:
            for amount in reserved.values():
                self._ledger.settle(amount, "", None)
            raise
        return reserved

    def _started(self, content: bytes) -> str:
        """Return the ARN of the job for these requests, started now or by an earlier process."""
        digest = batch_digest(content, self._section)
        lines = self._jobs.read_text().splitlines() if self._jobs.exists() else []
        known = dict(json.loads(line) for line in lines)
        if digest in known:
            return str(known[digest])
        bucket, key = _bucket_and_key(self._section.s3_uri, f"{digest}/input/requests.jsonl")
        self._s3.put_object(Bucket=bucket, Key=key, Body=content)
        request = job_request(self._section, digest)
        arn = str(self._bedrock.create_model_invocation_job(**request)["jobArn"])
        with self._jobs.open("a") as file:
            file.write(json.dumps([digest, arn]) + "\n")
        return arn

    def _wait(self, arn: str) -> None:
        """Wait until a job has ended.

        Raises:
            RunError: It failed.
        """
        while True:
            job = self._bedrock.get_model_invocation_job(jobIdentifier=arn)
            if job["status"] in _FINISHED:
                return
            if job["status"] in _FAILED:
                raise RunError(
                    f"the batch job {arn} has the status {job['status']}: "
                    f"{job.get('message', 'Bedrock gives no reason')}. Delete its line in "
                    f"{self._jobs} to start another one, or set teacher.kind: bedrock"
                )
            time.sleep(_POLL_S)

    def _output(self, content: bytes) -> Iterator[dict[str, Any]]:
        """Yield the records that the job wrote, in any order."""
        prefix = f"{batch_digest(content, self._section)}/output/"
        bucket, key = _bucket_and_key(self._section.s3_uri, prefix)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        for page in pages:
            for item in page.get("Contents", ()):
                if item["Key"].endswith(".jsonl.out"):
                    body = self._s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                    yield from (json.loads(line) for line in body.split(b"\n") if line.strip())


def record_id(question: list[Message]) -> str:
    """Return the id of a request: letters and digits alone."""
    return reply_key(question)[:32]


def request_file(questions: Sequence[list[Message]], section: BedrockBatchTeacher) -> bytes:
    """Return the JSON Lines file of Converse requests."""
    lines = [
        json.dumps({"recordId": record_id(q), "modelInput": converse_body(section, q)})
        for q in questions
    ]
    return ("\n".join(lines) + "\n").encode()


def batch_digest(content: bytes, section: BedrockBatchTeacher) -> str:
    """Return the digest by which a job and its files are named."""
    return reply_key(section.region, section.model, content.decode())[:32]


def job_request(section: BedrockBatchTeacher, digest: str) -> dict[str, Any]:
    """Return the parameters of CreateModelInvocationJob.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelInvocationJob.html
    """
    prefix = f"{section.s3_uri.rstrip('/')}/{digest}"
    return {
        "jobName": f"temper-{digest}",
        "clientRequestToken": digest,
        "roleArn": section.role_arn,
        "modelId": section.model,
        "modelInvocationType": "Converse",
        "inputDataConfig": {
            "s3InputDataConfig": {
                "s3InputFormat": "JSONL",
                "s3Uri": f"{prefix}/input/requests.jsonl",
            }
        },
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{prefix}/output/"}},
    }


def _bucket_and_key(s3_uri: str, name: str) -> tuple[str, str]:
    bucket, _, prefix = s3_uri.removeprefix("s3://").rstrip("/").partition("/")
    return bucket, f"{prefix}/{name}" if prefix else name
