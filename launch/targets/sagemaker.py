"""Target `sagemaker`: one CreateTrainingJob for each attempt of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.aws.cost_limits import cost_limit_problems
from launch.aws.create_training_job import (
    INPUTS,
    JOB_CHANNEL,
    JOB_FILE,
    JobRequirements,
    checkpoint_uri,
    create_request,
    output_uri,
)
from launch.aws.job_search import list_training_runs
from launch.aws.logs import LogReader, follow_log
from launch.aws.model_output import fetch_model
from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.restart import describe_request, restart_request, with_channel_addresses
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession, explain_aws_errors
from launch.aws.tags import MAX_TAG_LENGTH, invalid_characters
from launch.aws.training_jobs import TrainingJobs, billable_seconds, read_status
from launch.downloads import path_within
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact, missing_channels, rewrite_paths
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun, RunListing
from launch.resources import cloud_resources, image_kind, stages_of
from launch.status import Status
from launch.submission import Submission, TargetName, read_submission
from launch.targets.base import Quote
from planning import Plan
from training.errors import JobError, Problem

_MAX_CHANNELS = 20
_NOT_FETCHED = frozenset(("job.yaml", "launch.json", "status.json", "failure.json", ".lock"))
"""Files of which the run folder here has its own version; the remote one must not replace it."""


def from_environment(environment: LaunchEnvironment | None) -> SageMakerTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    if environment is None:
        raise LaunchError("--target sagemaker needs an environment: --env dev")
    return SageMakerTarget(AwsSession(environment))


class SageMakerTarget:
    """Target that runs SageMaker training jobs in the account of one environment.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "sagemaker"

    def __init__(self, account: AwsSession):
        self.account = account

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
        if problems := self._problems(prepared):
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

    def _problems(self, prepared: PreparedJob) -> list[Problem]:
        resources = cloud_resources(prepared.job, prepared.source, "sagemaker")
        problems = [
            *missing_channels(prepared.job),
            *self._tag_problems(),
            *cost_limit_problems(resources, self.platform),
        ]
        if len(prepared.inputs) >= _MAX_CHANNELS:
            problems.append(
                Problem(
                    "data",
                    f"a job reads at most {_MAX_CHANNELS - 1} files and folders",
                    str(len(prepared.inputs)),
                    "Put them into one folder",
                )
            )
        if self.platform.get("network/internet") == "false":
            problems += [
                Problem(
                    "model.source / data",
                    "is on the model hub, which this environment's network cannot reach",
                    name,
                    "Download it and name the folder; it is copied for you",
                )
                for name in prepared.hub_names
            ]
        wants_lustre = any(run.resources.input_mode == "fsx" for run in stages_of(prepared.job))
        if wants_lustre and self.platform.get("lustre/file-system") is None:
            fix = "Use file or fast_file"
            problems.append(
                Problem("resources.input_mode", "this environment has no Lustre", "fsx", fix)
            )
        return [
            *problems,
            *self._endpoint_problems(prepared),
            *self._registry_problems(prepared),
            *_volume_problems(prepared),
        ]

    def _registry_problems(self, prepared: PreparedJob) -> Iterator[Problem]:
        registers = any(run.resources.register_model for run in stages_of(prepared.job))
        if registers and self.platform.get("training/model-package-group") is None:
            yield Problem(
                "resources.register_model",
                "this environment has no model registry",
                "true",
                f"make deploy ENV={self.account.environment.name} creates it; or leave the key out",
            )

    def _tag_problems(self) -> Iterator[Problem]:
        """Yield the values of the environment that cannot be a training job's tag."""
        environment = self.account.environment
        settings = f"environments/{environment.name}.yaml"
        values = {"owner": environment.owner, "cost_centre": environment.cost_centre}
        for key, value in values.items():
            invalid = invalid_characters(value)
            if invalid or len(value) > MAX_TAG_LENGTH:
                yield Problem(
                    f"{key} of {settings}",
                    f"cannot be a tag of a training job: SageMaker rejects {invalid!r}"
                    if invalid
                    else f"cannot be a tag: it has more than {MAX_TAG_LENGTH} characters",
                    value,
                    "Write letters, digits, spaces and _ . : / = + - @, and deploy again",
                )

    def _endpoint_problems(self, prepared: PreparedJob) -> Iterator[Problem]:
        """Yield what the job's endpoints require and this environment does not provide."""
        environment = self.account.environment
        settings = f"environments/{environment.name}.yaml"
        allowed = (self.platform.get("bedrock/judges") or "").split(",")
        for endpoint in prepared.endpoints:
            variable = endpoint.key_variable
            if variable and self.platform.get(f"secrets/keys/{variable}") is None:
                yield Problem(
                    f"{endpoint.key}.api_key_env",
                    "names a key that this environment does not store",
                    variable,
                    f"Add it to storage.keys of {settings}, deploy, and put its value into the "
                    "secret",
                )
            if endpoint.region not in (None, environment.region):
                yield Problem(
                    f"{endpoint.key}.region",
                    "is not a Region that this environment's jobs may call",
                    str(endpoint.region),
                    f"Write {environment.region}; an inference profile reaches other Regions",
                )
            if endpoint.kind == "bedrock" and endpoint.model not in allowed:
                yield Problem(
                    f"{endpoint.key}.model",
                    "may not be called by this environment's jobs",
                    endpoint.model,
                    f"Add it to bedrock.judges of {settings}, and deploy",
                )

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Upload the job's inputs, create the training job, and record its ARN.

        Raises:
            LaunchError: The run was stopped during the upload, or the job cannot be created.
        """
        request = self.request(submission, prepared)
        # The upload can take minutes; `make stop` in another terminal may have cancelled the run.
        current = read_submission(submission.folder)
        if current is not None and current.cancelled:
            raise LaunchError(f"{current.run} was stopped before it was submitted: nothing runs")
        accepted = submission.with_handle(self.jobs.create(request))
        accepted.write()
        return accepted

    def request(self, submission: Submission, prepared: PreparedJob) -> dict[str, Any]:
        """Upload a run's inputs and return the CreateTrainingJob request of its latest attempt."""
        job = prepared.job
        resources = cloud_resources(job, submission.run, "sagemaker")
        channels = {artifact.channel: str(self._upload(artifact)) for artifact in prepared.inputs}
        home = S3Uri(self.platform["buckets/runs"], f"runs/{submission.run}/job")
        self.store.put_text(rewrite_paths(job, prepared.inputs, _container_path), home / JOB_FILE)
        key_variables = (e.key_variable for e in prepared.endpoints if e.key_variable)
        requirements = JobRequirements(
            channels={JOB_CHANNEL: f"{home}/", **channels},
            volume_gib=resources.volume_gib or _needed_gib(prepared.plan),
            needs_hub=bool(prepared.hub_names),
            mlflow=any(run.tracking.mlflow for run in stages_of(job)),
            calls_endpoints=bool(prepared.endpoints),
            key_variables=tuple(dict.fromkeys(key_variables)),
        )
        platform = self._with_lustre() if resources.input_mode == "fsx" else self.platform
        return create_request(submission, requirements, resources, platform)

    def _upload(self, artifact: InputArtifact) -> S3Uri:
        if artifact.path is None:
            return S3Uri.parse(artifact.s3_uri)
        days = self.platform.get("storage/upload-days")
        bucket = self.platform["buckets/data"]
        return self.store.upload_artifact(artifact, bucket, int(days) if days else None)

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
        if job is not None:
            return read_status(job, self._previous_seconds(submission))
        if submission.latest.handle:
            self._require_account_of(submission.latest.handle)
            return Status("stopped", "SageMaker no longer has this job")
        if submission.cancelled:
            return Status("stopped", "before it was submitted")
        return Status("planned", "not submitted: rerun the same command")

    def _require_account_of(self, job: str) -> None:
        """Raise unless a job's ARN is in the account and the Region that were asked.

        In every other account the job does not exist, which says nothing about it.

        Raises:
            LaunchError: The job is in another account or Region.
        """
        # arn:aws:sagemaker:REGION:ACCOUNT:training-job/NAME, and the caller's alike
        region, account = job.split(":")[3:5]
        asked = (self.account.environment.region, self.account.caller().split(":")[4])
        if (region, account) != asked:
            raise LaunchError(
                f"{job} is in account {account}, {region}, and these credentials ask account "
                f"{asked[1]}, {asked[0]}. Choose others with AWS_PROFILE"
            )

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
            dataclasses.replace(submission, cancelled=True).write()
            return f"{name} was not submitted yet, and will not be"
        return self.jobs.stop(name)

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the model and the run's metrics, samples and report.

        Args:
            submission: The run.
            archive: Keep the model packed, as `model.tar.gz`.
            checkpoints: Download the checkpoints too.
        """
        fetched = self._fetch_run_files(submission, checkpoints=checkpoints)
        job = self.jobs.find(submission.latest.name) or {}
        return [*fetch_model(self.store, job, submission.folder, archive=archive), *fetched]

    def _fetch_run_files(self, submission: Submission, *, checkpoints: bool) -> list[Path]:
        """Download what the run wrote next to its checkpoints: metrics, samples, report.

        Every stage of a pipeline has a `status.json`, too; the shortest path is that of the run.
        """
        prefix = S3Uri.parse(checkpoint_uri(submission.run, self.platform))
        objects = {uri.key.removeprefix(prefix.key): uri for uri, _ in self.store.list(prefix)}
        roots = [n.removesuffix("status.json") for n in objects if n.endswith("status.json")]
        root = min(roots, key=len, default="")
        wanted = {}
        for name, uri in objects.items():
            relative = name.removeprefix(root)
            *folders, base_name = relative.split("/")
            skipped = "model" in folders or ("checkpoints" in folders and not checkpoints)
            if skipped or not name.startswith(root) or relative in _NOT_FETCHED or not base_name:
                continue
            wanted[uri] = path_within(submission.folder, relative, str(uri))
        return [path for uri, path in wanted.items() if self.store.download_file(uri, path)]

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return the S3 prefixes of the run with their sizes in bytes."""
        return [(str(p), self.store.size_bytes(p)) for p in self._prefixes(submission)]

    def delete(self, submission: Submission) -> list[str]:
        """Delete a run's objects; return those that the platform protects, such as models."""
        failures = []
        for prefix in self._prefixes(submission):
            try:
                self.store.delete(prefix)
            except LaunchError as error:
                failures.append(str(error))
        return failures

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

    def _prefixes(self, submission: Submission) -> list[S3Uri]:
        run = submission.run
        return [
            S3Uri.parse(checkpoint_uri(run, self.platform)),
            S3Uri(self.platform["buckets/runs"], f"runs/{run}/"),
            S3Uri.parse(output_uri(run, self.platform)),
        ]


def _container_path(artifact: InputArtifact) -> str:
    """Return the path of an input in the container."""
    return f"{INPUTS}/{artifact.channel}/{artifact.base_name}".rstrip("/")


def _needed_gib(plan: Plan) -> float:
    """Return the disk that a run needs: what it writes, and libraries and temporary files."""
    return 1.2 * plan.disk_gib["total"] + 20


def _volume_problems(prepared: PreparedJob) -> Iterator[Problem]:
    resources = cloud_resources(prepared.job, prepared.source, "sagemaker")
    writes_gib = prepared.plan.disk_gib["total"]
    if resources.volume_gib is not None and resources.volume_gib < writes_gib:
        yield Problem(
            "resources.volume_gib",
            f"is less than the {writes_gib:.0f} GiB that the run writes",
            str(resources.volume_gib),
            f"Leave it out: {_needed_gib(prepared.plan):.0f} GiB are then requested",
        )


def _cost(plan: Plan) -> str:
    if not plan.cost_usd.high:
        return "an unknown cost (no price is known)"
    return f"{plan.cost_usd.low:.2f} to {plan.cost_usd.high:.2f} USD"
