"""Target `bedrock-customization`: one CreateModelCustomizationJob for each attempt of a run."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession, accept_existing, explain_aws_errors
from launch.aws.training_jobs import STATES
from launch.downloads import path_within
from launch.environment import LaunchEnvironment, require_environment
from launch.errors import LaunchError
from launch.managed.data_files import convert_data
from launch.managed.jobs import ManagedJob
from launch.managed.managed_model import write_managed_model
from launch.managed.requests import ROLE, bedrock_request
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun, RunListing, is_run_name, merge_attempts
from launch.status import Status
from launch.submission import Attempt, Submission, TargetName
from launch.targets.base import Quote
from launch.targets.managed_job import quote_of
from launch.targets.managed_target import ManagedTarget
from planning.managed.run import read_managed_run
from training.errors import JobError, Problem

_PHASES = {
    "validationDetails": "checking its data",
    "dataProcessingDetails": "processing its data",
    "trainingDetails": "training",
}
_IN_USE = ("ConflictException", "ResourceInUseException")
_NOT_FOUND = ("ResourceNotFoundException", "ValidationException")
_POLL_S = 30.0


def from_environment(environment: LaunchEnvironment | None) -> BedrockCustomizationTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    return BedrockCustomizationTarget(
        AwsSession(require_environment(environment, "bedrock-customization"))
    )


class BedrockCustomizationTarget(ManagedTarget[ManagedJob]):
    """Target that customizes foundation models of Amazon Bedrock.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "bedrock-customization"
    service = "Bedrock"

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job and its rows, and return what would be trained and charged.

        Raises:
            JobError: Bedrock cannot run it as it is written; lists every problem.
        """
        job = self.managed_job(prepared)
        self.account.caller()
        problems = list(self.grader_problems(job.run))
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
        if problems:
            raise JobError(prepared.source, problems)
        return quote_of(job, self.platform, prepared.source)

    def _convert(self, prepared: PreparedJob) -> ManagedJob:
        region = self.account.environment.region
        run = read_managed_run(prepared.job, self.name, source=prepared.source, region=region)
        return ManagedJob(run, convert_data(run, prepared.source))

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Upload the records, create the job, and record its ARN.

        Raises:
            LaunchError: The run was stopped during the upload, or the job cannot be created.
        """
        job = self.managed_job(prepared)
        data = self.upload_data(job)
        self.require_not_cancelled(submission)
        grader = self.deploy_grader(submission, job.run, "list") or job.run.job.resources.grader
        request = bedrock_request(submission, job.run, data, self.platform, grader)
        accepted = submission.with_handle(self._create(request))
        accepted.write()
        return accepted

    def _create(self, request: dict[str, Any]) -> str:
        """Create a job, or find the one that an earlier call created; return its ARN.

        Raises:
            LaunchError: The job cannot be created.
        """
        name = request["jobName"]
        bedrock = self.account.client("bedrock")
        with (
            explain_aws_errors(f"creating the customization job {name}"),
            accept_existing(lambda: self.find(name), _IN_USE),
        ):
            return str(bedrock.create_model_customization_job(**request)["jobArn"])
        existing = self.find(name)
        if existing is None:
            raise LaunchError(f"the name {name} is taken, and Bedrock does not describe the job")
        return str(existing["jobArn"])

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job, None if Bedrock has none of this name."""
        action = f"describing the customization job {name}"
        with explain_aws_errors(action, ignore=_NOT_FOUND):
            client = self.account.client("bedrock")
            return dict(client.get_model_customization_job(jobIdentifier=name))
        return None

    def status(self, submission: Submission) -> Status:
        """Return the status of the latest attempt, as Bedrock describes it.

        Raises:
            LaunchError: Bedrock could not be asked, or the credentials are of another account.
        """
        job = self.find(submission.latest.name)
        if job is None:
            return self.status_without_job(submission, self.service)
        return read_status(job)

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
        for uri, _ in self.store.list(self.output(submission)):
            if uri.key.endswith(".csv"):
                yield uri.key.rpartition("/")[2], self.store.get_text(uri) or ""

    def stop(self, submission: Submission) -> str:
        """Stop the job, or prevent its submission if the upload is still running."""
        name = submission.latest.name
        if self.find(name) is None:
            return self.cancel(submission)
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
        return ((u, size) for u, size in self.store.list(self.output(submission)) if size)

    def _download(self, submission: Submission, uri: S3Uri) -> Path:
        prefix = self.output(submission)
        path = path_within(
            submission.folder / "provider", uri.key.removeprefix(prefix.key), str(uri)
        )
        self.store.download_file(uri, path)
        return path

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
        return [*remaining, *super().delete(submission)]

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
            status=Status(STATES[summary["status"]]),
        )


def read_status(job: Mapping[str, Any]) -> Status:
    """Return the status of a customization job that Bedrock describes."""
    state = STATES[job["status"]]
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
