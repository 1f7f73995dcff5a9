"""Emulated batch inference of Bedrock: jobs that answer the records of JSON Lines files in S3.

https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from emulator.bedrock_account import BedrockAccount, BedrockResources, reject_conflict
from emulator.bedrock_runtime import BedrockRuntime
from emulator.request_validation import RequestRejected, check_role, reject
from launch.aws.s3 import S3Store, S3Uri

_HOURS = 24


class BatchApi:
    """Batch inference jobs.

    Args:
        account: The account.
        runtime: Answers the records.

    Attributes:
        min_records: Records that a job has at least, a quota of each model.
    """

    def __init__(self, account: BedrockAccount, runtime: BedrockRuntime):
        self._account, self._runtime = account, runtime
        self.min_records = 100
        self.jobs = BedrockResources(account, "jobArn", "jobName")

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a job (CreateModelInvocationJob).

        Raises:
            RequestRejected: The name is in use, or the role cannot be assumed.
        """
        account = self._account
        check_role(request["roleArn"], account.client, "bedrock.amazonaws.com")
        if not request["inputDataConfig"] or not request["outputDataConfig"]:
            reject("the input and the output of a job are in S3")

        def create(arn: str) -> None:
            if self.jobs.find(request["jobName"]):
                reject_conflict(f"A job named {request['jobName']} already exists")
            now = account.now()
            hours = request.get("timeoutDurationInHours", _HOURS)
            self.jobs.add(
                {
                    **{key: value for key, value in request.items() if key != "tags"},
                    "jobArn": arn,
                    "modelInvocationType": request.get("modelInvocationType", "InvokeModel"),
                    "status": "Submitted",
                    "submitTime": now,
                    "lastModifiedTime": now,
                    "jobExpirationTime": now + timedelta(hours=hours),
                    "timeoutDurationInHours": hours,
                },
                request.get("tags", ()),
            )

        def start(arn: str) -> None:
            job = self.jobs.get(arn)
            thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            account.clock.call_later(account.timings.batch_s, thread.start)

        return {"jobArn": account.create_once(request, "model-invocation-job", create, start)}

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a job (GetModelInvocationJob), which its ARN or the id in it names."""
        identifier = request["jobIdentifier"]
        arns = (job["jobArn"] for job in self.jobs.all())
        return self.jobs.get(next((a for a in arns if a.endswith(f"/{identifier}")), identifier))

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop a job (StopModelInvocationJob)."""
        self.jobs.stop(self.get(request))
        return {}

    def _run(self, job: dict[str, Any]) -> None:
        """Answer the records of a job, and write the results."""
        try:
            status = self._answer(job)
        except Exception as error:  # the service, too, ends a job whose input it cannot read
            job["message"] = str(error)[:2048]
            status = "Failed"
        now = self._account.now()
        job |= {"status": status, "lastModifiedTime": now, "endTime": now}

    def _answer(self, job: dict[str, Any]) -> str:
        job["status"] = "Validating"
        store = S3Store(self._account.client("s3"))
        files = self._files(store, job)
        count = sum(len(records) for records in files.values())
        if count < self.min_records:
            job["message"] = f"The job has {count} records, and the minimum is {self.min_records}"
            return "Failed"
        if job["status"] == "Validating":
            job["status"] = "InProgress"
        output = S3Uri.parse(job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])
        folder = output / job["jobArn"].rpartition("/")[2]
        totals = {"totalRecordCount": count, "successRecordCount": 0, "errorRecordCount": 0}
        for name, records in files.items():
            answers = [self._answer_record(job, record) for record in records]
            done = [answer for answer in answers if answer is not None]
            totals["successRecordCount"] += sum("modelOutput" in answer for answer in done)
            totals["errorRecordCount"] += sum("error" in answer for answer in done)
            lines = [json.dumps(answer) for answer in done]
            store.put_text("\n".join(lines) + "\n", folder / f"{name}.out")
        totals["processedRecordCount"] = totals["successRecordCount"] + totals["errorRecordCount"]
        job |= totals
        store.put_text(json.dumps(totals), folder / "manifest.json.out")
        if job["status"] == "Stopping":
            return "Stopped"
        return "PartiallyCompleted" if totals["errorRecordCount"] else "Completed"

    def _files(self, store: S3Store, job: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the records of each file, by its name."""
        source = S3Uri.parse(job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
        found: Iterable[S3Uri] = (uri for uri, _ in store.list(source))
        texts = {u.key.rpartition("/")[2]: store.get_text(u) for u in found if _is_input(u)}
        return {
            name: [json.loads(line) for line in (text or "").split("\n") if line.strip()]
            for name, text in texts.items()
        }

    def _answer_record(self, job: dict[str, Any], record: dict[str, Any]) -> dict[str, Any] | None:
        """Return the line of a record in the output; None if the job is being stopped."""
        if job["status"] == "Stopping":
            return None
        converse = job["modelInvocationType"] == "Converse"
        try:
            output = self._runtime.answer(job["modelId"], record["modelInput"], converse=converse)
        except RequestRejected as error:
            return {**record, "error": {"errorCode": 400, "errorMessage": error.message}}
        return {**record, "modelOutput": output}


def _is_input(uri: S3Uri) -> bool:
    return uri.key.endswith(".jsonl")
