"""Target `bedrock-customization`: one CreateModelCustomizationJob for each attempt of a run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore import exceptions as aws

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.run_objects import delete_prefixes
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession, error_code, explain_aws_errors
from launch.downloads import path_within
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from launch.managed.data_files import convert_data
from launch.managed.managed_model import write_managed_model
from launch.managed.requests import ROLE, bedrock_request, managed_output_uri
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun, RunListing, is_run_name, merge_attempts
from launch.status import State, Status
from launch.submission import Attempt, Submission, TargetName, read_submission
from launch.targets.base import Quote
from launch.targets.managed_job import ManagedJob, quote_of, upload_data
from planning.managed.run import read_managed_run
from training.errors import JobError, Problem

_STATES: dict[str, State] = {
    "InProgress": "training",
    "Completed": "not deployed",
    "Failed": "training failed",
    "Stopping": "stopping",
    "Stopped": "stopped",
}
_PHASES = {
    "validationDetails": "checking its data",
    "dataProcessingDetails": "processing its data",
    "trainingDetails": "training",
}
_NOT_FOUND = ("ResourceNotFoundException", "ValidationException")
_POLL_S = 30.0


def from_environment(environment: LaunchEnvironment | None) -> BedrockCustomizationTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    if environment is None:
        raise LaunchError("--target bedrock-customization needs an environment: --env dev")
    return BedrockCustomizationTarget(AwsSession(environment))


class BedrockCustomizationTarget:
    """Target that customizes foundation models of Amazon Bedrock.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "bedrock-customization"

    def __init__(self, account: AwsSession):
        self.account = account
        self._prepared: dict[int, ManagedJob] = {}

    @property
    def job_prefix(self) -> str:
        """Prefix of the environment, whose roles may touch jobs of these names only."""
        return self.account.environment.prefix

    @cached_property
    def platform(self) -> PlatformParameters:
        """Parameters that the platform published."""
        return read_platform_parameters(self.account.environment, self.account.client("ssm"))

    @cached_property
    def store(self) -> S3Store:
        """Object store of the account."""
        return S3Store(self.account.client("s3"))

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job and its rows, and return what would be trained and charged.

        Raises:
            JobError: Bedrock cannot run it as it is written; lists every problem.
        """
        job = self._job(prepared)
        self.account.caller()
        problems = []
        if self.platform.get(ROLE) is None:
            name = self.account.environment.name
            problems.append(
                Problem(
                    "--env",
                    f"has no {ROLE}",
                    name,
                    "Set training.managed_customization in its file, and deploy it",
                )
            )
        if job.run.kind == "grpo" and not job.run.job.resources.grader:
            problems.append(
                Problem(
                    "resources.grader",
                    "is required: Bedrock calls a Lambda function for each answer",
                    fix="Write the ARN of a Lambda function that scores answers",
                )
            )
        if problems:
            raise JobError(prepared.source, problems)
        return quote_of(job, self.account.environment, prepared.source)

    def _job(self, prepared: PreparedJob) -> ManagedJob:
        """Return the job with its records, which are converted once."""
        key = id(prepared)
        if key not in self._prepared:
            region = self.account.environment.region
            run = read_managed_run(prepared.job, self.name, source=prepared.source, region=region)
            self._prepared[key] = ManagedJob(run, convert_data(run, prepared.source))
        return self._prepared[key]

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Upload the records, create the job, and record its ARN.

        Raises:
            LaunchError: The run was stopped during the upload, or the job cannot be created.
        """
        job = self._job(prepared)
        data = upload_data(job, self.store, self.platform)
        current = read_submission(submission.folder)
        if current is not None and current.cancelled:
            raise LaunchError(f"{current.run} was stopped before it was submitted: nothing runs")
        request = bedrock_request(submission, job.run, data, self.platform)
        accepted = submission.with_handle(self._create(request))
        accepted.write()
        return accepted

    def _create(self, request: dict[str, Any]) -> str:
        """Create a job, or find the one that an earlier call created; return its ARN.

        Raises:
            LaunchError: The job cannot be created.
        """  # noqa: DOC501 (errors of boto3 become a LaunchError)
        name = request["jobName"]
        bedrock = self.account.client("bedrock")
        with explain_aws_errors(f"creating the customization job {name}"):
            try:
                return str(bedrock.create_model_customization_job(**request)["jobArn"])
            except aws.ClientError as error:
                if error_code(error) not in ("ConflictException", "ResourceInUseException"):
                    raise
                existing = self.find(name)
                if existing is None:
                    raise
                return str(existing["jobArn"])
            except (aws.HTTPClientError, aws.ConnectionError):
                # No reply: only a lookup of the name shows whether the job was created.
                existing = self.find(name)
                if existing is None:
                    raise
                return str(existing["jobArn"])

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job, None if Bedrock has none of this name."""
        action = f"describing the customization job {name}"
        with explain_aws_errors(action, ignore=_NOT_FOUND):
            client = self.account.client("bedrock")
            return dict(client.get_model_customization_job(jobIdentifier=name))
        return None

    def status(self, submission: Submission) -> Status:
        """Return the status of the latest attempt, as Bedrock describes it."""
        job = self.find(submission.latest.name)
        if job is not None:
            return read_status(job)
        if submission.latest.handle:
            return Status("stopped", "Bedrock no longer has this job")
        if submission.cancelled:
            return Status("stopped", "before it was submitted")
        return Status("planned", "not submitted: rerun the same command")

    def logs(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the phases of the job, and its losses when it has ended: Bedrock keeps no log."""
        seen = ""
        while True:
            job = self.find(submission.latest.name)
            if job is None:
                return
            phase = _phase(job) or job["status"]
            if phase != seen:
                yield f"{submission.latest.name}: {phase}"
                seen = phase
            if job["status"] not in ("InProgress", "Stopping") or not follow:
                break
            time.sleep(_POLL_S)
        for name, text in self._metric_files(submission):
            yield name
            yield from text.splitlines()

    def _metric_files(self, submission: Submission) -> Iterator[tuple[str, str]]:
        for uri, _ in self.store.list(self._output(submission)):
            if uri.key.endswith(".csv"):
                yield uri.key.rpartition("/")[2], self.store.get_text(uri) or ""

    def stop(self, submission: Submission) -> str:
        """Stop the job, or prevent its submission if the upload is still running."""
        name = submission.latest.name
        if self.find(name) is None:
            dataclasses.replace(submission, cancelled=True).write()
            return f"{name} was not submitted yet, and will not be"
        with explain_aws_errors(f"stopping {name}"):
            self.account.client("bedrock").stop_model_customization_job(jobIdentifier=name)
        return f"{name} was told to stop; Bedrock keeps no checkpoint, and bills what it trained"

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the losses, and write which custom model the run made.

        The weights of a custom model cannot be downloaded.

        Args:
            submission: The run.
            archive: Has no effect: there are no weights.
            checkpoints: Has no effect: a provider keeps none.
        """
        job = self.find(submission.latest.name)
        if job is None or job["status"] != "Completed":
            return []
        files = [self._download(submission, uri) for uri, _ in self._objects(submission)]
        model = write_managed_model(
            submission.folder,
            {
                "provider": self.name,
                "custom_model": job["outputModelArn"],
                "base": job["baseModelArn"],
                "job": job["jobArn"],
                "technique": job.get("customizationType", ""),
                "region": self.account.environment.region,
            },
        )
        metrics = submission.folder / "metrics.jsonl"
        rows = list(_losses(self._metric_files(submission)))
        if rows:
            metrics.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return [model, *files, *([metrics] if rows else [])]

    def _objects(self, submission: Submission) -> Iterator[tuple[S3Uri, int]]:
        return ((u, size) for u, size in self.store.list(self._output(submission)) if size)

    def _download(self, submission: Submission, uri: S3Uri) -> Path:
        prefix = self._output(submission)
        path = path_within(
            submission.folder / "provider", uri.key.removeprefix(prefix.key), str(uri)
        )
        self.store.download_file(uri, path)
        return path

    def _output(self, submission: Submission) -> S3Uri:
        return S3Uri.parse(managed_output_uri(submission.run, self.platform))

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return the S3 prefix of the run with its size; the custom model has no size."""
        prefix = self._output(submission)
        return [(str(prefix), self.store.size_bytes(prefix))]

    def delete(self, submission: Submission) -> list[str]:
        """Delete the custom model and the objects of a run; return what stays, and why."""
        remaining = []
        job = self.find(submission.latest.name)
        if job is not None and job.get("outputModelArn"):
            try:
                with explain_aws_errors(f"deleting {job['outputModelArn']}", ignore=_NOT_FOUND):
                    self.account.client("bedrock").delete_custom_model(
                        modelIdentifier=job["outputModelArn"]
                    )
            except LaunchError as error:
                remaining.append(str(error))
        return [*remaining, *delete_prefixes(self.store, [self._output(submission)])]

    def list_runs(self, days: int | None) -> RunListing:
        """Return the runs of everyone in the environment, as the tags of their jobs name them."""
        bedrock = self.account.client("bedrock")
        attempts, prefix = [], f"{self.job_prefix}-"
        with explain_aws_errors("listing customization jobs"):
            filters: dict[str, Any] = {"nameContains": prefix}
            if days is not None:
                filters["creationTimeAfter"] = time.time() - days * 86400
            pages = bedrock.get_paginator("list_model_customization_jobs").paginate(**filters)
            jobs = [one for page in pages for one in page["modelCustomizationJobSummaries"]]
            for summary in jobs:
                tags = bedrock.list_tags_for_resource(resourceARN=summary["jobArn"])["tags"]
                attempt = self._attempt(summary, {tag["key"]: tag["value"] for tag in tags})
                if attempt is not None:
                    attempts.append(attempt)
        return RunListing(tuple(merge_attempts(attempts)))

    def _attempt(self, summary: Mapping[str, Any], tags: Mapping[str, str]) -> RemoteRun | None:
        run = f"{tags.get('temper:job', '')}/{tags.get('temper:run', '')}"
        environment = self.account.environment.name
        if not is_run_name(run) or tags.get("Environment") != environment:
            return None
        created = summary["creationTime"].strftime("%Y-%m-%dT%H:%M:%SZ")
        return RemoteRun(
            run=run,
            target=self.name,
            environment=environment,
            creator=tags.get("temper:creator", ""),
            created=created,
            attempts=(Attempt(summary["jobName"], summary["jobArn"], created),),
            status=Status(_STATES[summary["status"]]),
        )

    def job_document(self, run: RemoteRun) -> str:
        """Raise: a provider has the records of a job, and not its file.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError("Bedrock keeps no job file; the person who submitted it has it")

    def quote_restart(self, submission: Submission) -> Quote:
        """Raise: see `restart`.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError(
            f"{submission.run} was submitted elsewhere, and Bedrock resumes no job. Submit its job "
            "file again"
        )

    def restart(self, submission: Submission) -> Submission:
        """Raise: a job starts over, for which its file is needed.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError(f"Bedrock resumes no job; {submission.run} is submitted by its job file")


def read_status(job: Mapping[str, Any]) -> Status:
    """Return the status of a customization job that Bedrock describes."""
    state = _STATES[job["status"]]
    detail = job.get("failureMessage", "") if state == "training failed" else _phase(job)
    loss = job.get("trainingMetrics", {}).get("trainingLoss")
    return Status(state, detail, loss=loss)


def _phase(job: Mapping[str, Any]) -> str:
    """Return the phase that is in progress."""
    details = job.get("statusDetails") or {}
    for key, words in _PHASES.items():
        if details.get(key, {}).get("status") == "InProgress":
            return words
    return ""


def _losses(files: Iterator[tuple[str, str]]) -> Iterator[dict[str, float]]:
    """Yield the losses of Bedrock's tables as lines of metrics."""
    names = {"training_loss": "loss", "validation_loss": "eval_loss", "step_number": "step"}
    for _, text in files:
        for row in csv.DictReader(io.StringIO(text)):
            known = {names[k]: float(v) for k, v in row.items() if k in names and v}
            if "step" in known:
                yield known | {"step": int(known["step"])}
