"""Target `sagemaker`: one CreateTrainingJob for each attempt of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.aws.create_training_job import (
    INPUTS,
    JOB_CHANNEL,
    JOB_FILE,
    JobRequirements,
    create_request,
)
from launch.aws.environment_problems import environment_problems
from launch.aws.job_search import list_training_runs
from launch.aws.logs import LogReader, follow_log
from launch.aws.model_output import fetch_model
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.restart import describe_request, restart_request, with_channel_addresses
from launch.aws.run_objects import delete_prefixes, fetch_run_files, run_prefixes
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession, explain_aws_errors
from launch.aws.training_jobs import TrainingJobs, billable_seconds, read_status
from launch.aws.volume_size import needed_volume_gib
from launch.environment import LaunchEnvironment, require_environment
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact, rewrite_paths
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun, RunListing
from launch.resources import cloud_resources, image_kind, stages_of
from launch.status import Status
from launch.submission import Submission, TargetName
from launch.targets.aws_target import AwsTarget
from launch.targets.base import Quote
from planning import Plan
from training.errors import JobError


def from_environment(environment: LaunchEnvironment | None) -> SageMakerTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    return SageMakerTarget(AwsSession(require_environment(environment, "sagemaker")))


class SageMakerTarget(AwsTarget):
    """Target that runs SageMaker training jobs in the account of one environment.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "sagemaker"

    @cached_property
    def jobs(self) -> TrainingJobs:
        """Training jobs of the account."""
        return TrainingJobs(self.account.client("sagemaker"))

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job against the account, and return what would be created and charged.

        Raises:
            JobError: The job needs something that the account or the environment does not have.
        """
        plan = prepared.plan
        resources = cloud_resources(prepared.job, prepared.source, "sagemaker")
        assert resources.instance is not None
        self.account.caller()
        if problems := environment_problems(prepared, self.platform):
            raise JobError(prepared.source, problems)
        for artifact in prepared.inputs:
            if artifact.path is None:
                self.store.require_objects(artifact.key, S3Uri.parse(artifact.s3_uri))
        environment = self.account.environment
        cost = _cost(plan)
        return Quote(
            (
                f"{resources.count} × {resources.instance}{', spot' * resources.spot}, "
                f"{environment.region} ({environment.name})",
                f"image {resources.image or self.platform.image(image_kind(resources.instance))}",
                *(artifact.summary for artifact in prepared.inputs),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h, {cost}",
            ),
            f"Start {prepared.job.name} for {cost}?",
        )

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Upload the job's inputs, create the training job, and record its ARN.

        Raises:
            LaunchError: The run was stopped during the upload, or the job cannot be created.
        """
        request = self.request(submission, prepared)
        self.require_not_cancelled(submission)
        accepted = submission.with_handle(self.jobs.create(request))
        accepted.write()
        return accepted

    def request(self, submission: Submission, prepared: PreparedJob) -> dict[str, Any]:
        """Upload a run's inputs and return the CreateTrainingJob request of its latest attempt."""
        job = prepared.job
        resources = cloud_resources(job, submission.run, "sagemaker")
        channels = {artifact.channel: str(self._address(artifact)) for artifact in prepared.inputs}
        home = S3Uri(self.platform["buckets/runs"], f"runs/{submission.run}/job")
        self.store.put_text(rewrite_paths(job, prepared.inputs, _container_path), home / JOB_FILE)
        key_variables = (e.key_variable for e in prepared.endpoints if e.key_variable)
        requirements = JobRequirements(
            channels={JOB_CHANNEL: f"{home}/", **channels},
            volume_gib=resources.volume_gib or needed_volume_gib(prepared.plan),
            needs_hub=bool(prepared.hub_names),
            mlflow=any(run.tracking.mlflow for run in stages_of(job)),
            calls_endpoints=bool(prepared.endpoints),
            key_variables=tuple(dict.fromkeys(key_variables)),
        )
        platform = self._with_lustre() if resources.input_mode == "fsx" else self.platform
        return create_request(submission, requirements, resources, platform)

    def _address(self, artifact: InputArtifact) -> S3Uri:
        return S3Uri.parse(artifact.s3_uri) if artifact.path is None else self.upload(artifact)

    def _with_lustre(self) -> PlatformParameters:
        """Return the platform with the mount name of its file system, which only FSx knows."""
        with explain_aws_errors("reading the file system's mount name"):
            answer = self.account.client("fsx").describe_file_systems(
                FileSystemIds=[self.platform["lustre/file-system"]]
            )
        mount = answer["FileSystems"][0]["LustreConfiguration"]["MountName"]
        return dataclasses.replace(self.platform, lustre_mount=mount)

    def status(self, submission: Submission) -> Status:
        """Return the status of the latest attempt, as SageMaker describes it.

        Raises:
            LaunchError: SageMaker could not be asked, or the credentials are of another account.
        """
        job = self.jobs.find(submission.latest.name)
        if job is None:
            return self.status_without_job(submission, "SageMaker")
        return self.status_of(job, submission)

    def status_of(self, job: Mapping[str, Any], submission: Submission) -> Status:
        """Return the status of a run by the description of its latest job.

        Args:
            job: Description of the job by SageMaker.
            submission: The run.
        """
        return read_status(job, self._previous_seconds(submission))

    def _previous_seconds(self, submission: Submission) -> float:
        previous = (self.jobs.find(attempt.name) for attempt in submission.attempts[:-1])
        return sum(billable_seconds(job) for job in previous if job)

    def logs(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the log lines of the latest attempt from CloudWatch."""
        group, name = self.platform["training/log-group"], submission.latest.name
        reader = LogReader(self.account.client("logs"), group, name)
        if follow:
            yield from follow_log(reader, lambda: self.status(submission).is_over)
        else:
            yield from reader.new_lines()

    def stop(self, submission: Submission) -> str:
        """Stop the job, or prevent its submission if the upload is still running."""
        name = submission.latest.name
        if self.jobs.find(name) is None:
            return self.cancel(submission)
        return self.jobs.stop(name)

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the model and the run's metrics, samples and report.

        Args:
            submission: The run.
            archive: Keep the model packed, as `model.tar.gz`.
            checkpoints: Download the checkpoints too.
        """
        job = self.jobs.find(submission.latest.name) or {}
        model = fetch_model(self.store, job, submission.folder, archive=archive)
        # A run that failed after training, at a limit of its evaluation, has kept its model.
        kept = not model and job.get("TrainingJobStatus") == "Failed"
        fetched = fetch_run_files(
            self.store, submission, self.platform, checkpoints=checkpoints, model=kept
        )
        return [*model, *fetched]

    def fetch_reports(self, submission: Submission) -> list[Path]:
        """Download a run's metrics, samples and report."""
        return fetch_run_files(self.store, submission, self.platform, checkpoints=False)

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return the S3 prefixes of the run with their sizes in bytes."""
        prefixes = run_prefixes(submission.run, self.platform)
        return [(str(p), self.store.size_bytes(p)) for p in prefixes]

    def delete(self, submission: Submission) -> list[str]:
        """Delete a run's objects; return those that the platform protects, such as models."""
        prefixes = run_prefixes(submission.run, self.platform)
        return delete_prefixes(self.store, prefixes)

    def list_runs(self, days: int | None) -> RunListing:
        """Return the runs of everyone in the environment, as the tags of their jobs name them."""
        return list_training_runs(
            self.account.client("sagemaker"), self.account.environment.name, days
        )

    def job_document(self, run: RemoteRun) -> str:
        """Return the job file that was sent, with the S3 addresses of its inputs.

        Raises:
            LaunchError: S3 has no such file, or SageMaker no longer has the job.
        """
        home = S3Uri(self.platform["buckets/runs"], f"runs/{run.run}/job")
        text = self.store.get_text(home / JOB_FILE)
        job = self.jobs.find(run.attempts[-1].name)
        if text is None or job is None:
            raise LaunchError(f"{home / JOB_FILE} does not exist")
        return with_channel_addresses(text, job)

    def quote_restart(self, submission: Submission) -> Quote:
        """Return the machines of the latest attempt, and the most that a restart can cost.

        Raises:
            LaunchError: SageMaker no longer has the job.
        """
        return Quote(*describe_request(self._latest_job(submission), self.account.environment))

    def restart(self, submission: Submission) -> Submission:
        """Send the request of the previous attempt again, under the name of the latest one.

        Raises:
            LaunchError: SageMaker no longer has the job, or rejects the new one.
        """
        job = self.jobs.find(submission.attempts[-2].name)
        if job is None:
            raise LaunchError(f"SageMaker no longer has {submission.attempts[-2].name}")
        sagemaker = self.account.client("sagemaker")
        with explain_aws_errors(f"reading the tags of {job['TrainingJobName']}"):
            tags = sagemaker.list_tags(ResourceArn=job["TrainingJobArn"], MaxResults=100)["Tags"]
        request = restart_request(sagemaker, job, submission.latest.name, tags)
        accepted = submission.with_handle(self.jobs.create(request))
        accepted.write()
        return accepted

    def _latest_job(self, submission: Submission) -> dict[str, Any]:
        job = self.jobs.find(submission.latest.name)
        if job is None:
            raise LaunchError(f"SageMaker no longer has {submission.latest.name}")
        return job


def _container_path(artifact: InputArtifact) -> str:
    """Return the path of an input in the container."""
    return f"{INPUTS}/{artifact.channel}/{artifact.base_name}".rstrip("/")


def _cost(plan: Plan) -> str:
    if not plan.cost_usd.high:
        return "an unknown cost (no price is known)"
    return f"{plan.cost_usd.low:.2f} to {plan.cost_usd.high:.2f} USD"
