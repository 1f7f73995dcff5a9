"""SageMaker training jobs: one CreateTrainingJob for each attempt of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.aws.create_training_job import (
    INPUTS,
    JOB_CHANNEL,
    JOB_FILE,
    JobSpec,
    checkpoint_address,
    output_address,
    training_job,
)
from launch.aws.logs import LogReader, follow_log
from launch.aws.model_archive import unpack_model
from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession, explained
from launch.aws.training_jobs import TrainingJobs, machine_seconds, read_status
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from launch.job_inputs import (
    InputArtifact,
    collect_inputs,
    endpoints,
    hub_names,
    missing_channels,
    rewrite_paths,
)
from launch.resources import image_kind, resources_of, runs_of
from launch.status import Status
from launch.submission_record import SubmissionRecord, TargetName, read_submission_record
from launch.targets.base import Quote, Submission
from planning import Plan
from training.config import Job, Pipeline
from training.errors import JobError, Problem

_MOST_CHANNELS = 20
_NOT_FETCHED = frozenset(("job.yaml", "status.json", "failure.json", ".lock"))
"""What the run folder here has of its own, or must not take over from there."""


def from_environment(environment: LaunchEnvironment | None) -> SageMakerTarget:
    """Return the account of an environment."""
    if environment is None:
        raise LaunchError("TARGET=sagemaker needs an environment: ENV=dev")
    return SageMakerTarget(AwsSession(environment))


class SageMakerTarget:
    """Jobs in the account of one environment.

    Args:
        account: Whose.
    """

    name: TargetName = "sagemaker"

    def __init__(self, account: AwsSession):
        self.account = account

    @cached_property
    def platform(self) -> PlatformParameters:
        """What the environment published."""
        return read_platform_parameters(self.account.environment, self.account.client("ssm"))

    @cached_property
    def store(self) -> S3Store:
        """Its buckets."""
        return S3Store(self.account.client("s3"))

    @cached_property
    def jobs(self) -> TrainingJobs:
        """Its training jobs."""
        return TrainingJobs(self.account.client("sagemaker"))

    def offer(self, job: Job | Pipeline, plan: Plan, source: str) -> Quote:
        """Check the job against the account, and say what would be made and paid for."""
        resources = resources_of(job, source, "sagemaker")
        assert resources.instance is not None
        self.account.caller()
        items = collect_inputs(job)
        if problems := self._problems(job, items):
            raise JobError(source, problems)
        for item in items:
            if item.path is None:
                self.store.refuse_empty(item.key, S3Uri.parse(item.address))
        where = self.account.environment
        cost = _cost(plan)
        return Quote(
            (
                f"{resources.count} × {resources.instance}{', spot' * resources.spot}, "
                f"{where.region} ({where.name})",
                f"image {resources.image or self.platform.image(image_kind(resources.instance))}",
                *(item.described for item in items),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h, {cost}",
            ),
            f"Start {job.name} for {cost}?",
        )

    def _problems(self, job: Job | Pipeline, items: list[InputArtifact]) -> list[Problem]:
        found = missing_channels(job)
        if len(items) >= _MOST_CHANNELS:
            found.append(
                Problem(
                    "data",
                    f"a job reads at most {_MOST_CHANNELS - 1} files and folders",
                    str(len(items)),
                    "Put them into one folder",
                )
            )
        if self.platform.get("network/internet") == "false":
            found += [
                Problem(
                    "model.source / data",
                    "is on the model hub, and this environment's network has no way out",
                    name,
                    "Download it and name the folder; it is copied for you",
                )
                for name in hub_names(job)
            ]
        wants_lustre = any(run.resources.input_mode == "fsx" for run in runs_of(job))
        if wants_lustre and self.platform.get("lustre/file-system") is None:
            fix = "Use file or fast_file"
            found.append(
                Problem("resources.input_mode", "this environment has no Lustre", "fsx", fix)
            )
        return [*found, *self._uncallable(job)]

    def _uncallable(self, job: Job | Pipeline) -> Iterator[Problem]:
        """Yield what the endpoints that a job calls want, and this environment does not give."""
        here = self.account.environment
        where = f"environments/{here.name}.yaml"
        allowed = (self.platform.get("bedrock/judges") or "").split(",")
        for called in endpoints(job):
            variable = called.key_variable
            if variable and self.platform.get(f"secrets/keys/{variable}") is None:
                yield Problem(
                    f"{called.key}.api_key_env",
                    "names a key that this environment does not keep",
                    variable,
                    f"Add it to storage.keys of {where}, and deploy; then put it into its secret",
                )
            if called.region not in (None, here.region):
                yield Problem(
                    f"{called.key}.region",
                    "is not where this environment's jobs may ask",
                    str(called.region),
                    f"Write {here.region}; an inference profile reaches further",
                )
            if called.kind == "bedrock" and called.model not in allowed:
                yield Problem(
                    f"{called.key}.model",
                    "may not be called by this environment's jobs",
                    called.model,
                    f"Add it to bedrock.judges of {where}, and deploy",
                )

    def submit(self, sent: Submission, job: Job | Pipeline, plan: Plan) -> SubmissionRecord:
        """Copy what the job needs, create the training job, and keep its ARN."""
        request = self.request(sent.record, job, plan)
        now = read_submission_record(sent.folder)
        if now is not None and now.cancelled:
            raise LaunchError(f"{now.run} was stopped before it was submitted: nothing runs")
        record = sent.record.accepted(self.jobs.create(request))
        record.write(sent.folder)
        return record

    def request(self, record: SubmissionRecord, job: Job | Pipeline, plan: Plan) -> dict[str, Any]:
        """Put a run's baggage in its place and return the request for its latest attempt."""
        resources = resources_of(job, record.run, "sagemaker")
        items = collect_inputs(job)
        channels = {item.channel: str(self._put(item)) for item in items}
        home = S3Uri(self.platform["buckets/runs"], f"runs/{record.run}/job")
        self.store.put_text(rewrite_paths(job, items, _place), home / JOB_FILE)
        order = JobSpec(
            name=record.latest.name,
            run=record.run,
            creator=record.creator,
            channels={JOB_CHANNEL: f"{home}/", **channels},
            volume_gib=1.2 * plan.disk_gib["total"] + 20,
            needs_hub=bool(hub_names(job)),
            mlflow=any(run.tracking.mlflow for run in runs_of(job)),
            calls=bool(endpoints(job)),
            keys=tuple(dict.fromkeys(e.key_variable for e in endpoints(job) if e.key_variable)),
        )
        platform = self._with_lustre() if resources.input_mode == "fsx" else self.platform
        return training_job(order, resources, platform)

    def _put(self, item: InputArtifact) -> S3Uri:
        if item.path is None:
            return S3Uri.parse(item.address)
        return self.store.put_item(item, self.platform["buckets/data"])

    def _with_lustre(self) -> PlatformParameters:
        """Return the platform with its file system's mount name, which only FSx knows."""
        with explained("asking for the file system's mount name"):
            answer = self.account.client("fsx").describe_file_systems(
                FileSystemIds=[self.platform["lustre/file-system"]]
            )
        mount = answer["FileSystems"][0]["LustreConfiguration"]["MountName"]
        return dataclasses.replace(self.platform, lustre_mount=mount)

    def status(self, sent: Submission) -> Status:
        """Ask SageMaker where the latest attempt stands."""
        record = sent.record
        found = self.jobs.find(record.latest.name)
        if found is not None:
            return read_status(found, self._seconds_before(record))
        if record.latest.handle:
            return Status("stopped", "SageMaker no longer knows this job")
        if record.cancelled:
            return Status("stopped", "before it was submitted")
        return Status("planned", "not submitted: the same command goes on")

    def _seconds_before(self, record: SubmissionRecord) -> float:
        earlier = (self.jobs.find(attempt.name) for attempt in record.attempts[:-1])
        return sum(machine_seconds(found) for found in earlier if found)

    def logs(self, sent: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the lines of the latest attempt, from CloudWatch."""
        group, name = self.platform["training/log-group"], sent.record.latest.name
        reader = LogReader(self.account.client("logs"), group, name)
        if follow:
            yield from follow_log(reader, lambda: self.status(sent).is_over)
        else:
            yield from reader.new_lines()

    def stop(self, sent: Submission) -> str:
        """Stop the job, or keep it from being submitted."""
        name = sent.record.latest.name
        if self.jobs.find(name) is None:
            dataclasses.replace(sent.record, cancelled=True).write(sent.folder)
            return f"{name} was not submitted yet, and will not be"
        return self.jobs.stop(name)

    def fetch(self, sent: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Bring the model and the record of the run."""
        brought = self._fetch_record(sent, checkpoints=checkpoints)
        found = self.jobs.find(sent.record.latest.name) or {}
        address = found.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        packed, model = sent.folder / "model.tar.gz", sent.folder / "model"
        if not address or not self.store.get_file(S3Uri.parse(address), packed):
            return brought
        if archive:
            return [packed, *brought]
        unpack_model(packed, model)
        packed.unlink()
        return [model, *brought]

    def _fetch_record(self, sent: Submission, *, checkpoints: bool) -> list[Path]:
        """Bring what the run wrote beside its model: metrics, samples, report."""
        prefix = S3Uri.parse(checkpoint_address(sent.record.run, self.platform))
        names = {a.key.removeprefix(prefix.key): a for a, _ in self.store.list(prefix)}
        roots = [n.removesuffix("status.json") for n in names if n.endswith("status.json")]
        root = min(roots, key=len, default="")
        brought = []
        for name, address in names.items():
            inside = name.removeprefix(root)
            folders = inside.split("/")[:-1]
            wanted = name.startswith(root) and inside not in _NOT_FETCHED and ".." not in folders
            if not wanted or "model" in folders or ("checkpoints" in folders and not checkpoints):
                continue
            if self.store.get_file(address, sent.folder / inside):
                brought.append(sent.folder / inside)
        return brought

    def belongings(self, sent: Submission) -> list[tuple[str, int]]:
        """Return what the run keeps in S3, with bytes."""
        return [(str(p), self.store.size_bytes(p)) for p in self._prefixes(sent.record)]

    def delete(self, sent: Submission) -> list[str]:
        """Delete a run's objects. What the platform protects (models) stays, and is named."""
        kept = []
        for prefix in self._prefixes(sent.record):
            try:
                self.store.delete(prefix)
            except LaunchError as error:
                kept.append(str(error))
        return kept

    def _prefixes(self, record: SubmissionRecord) -> list[S3Uri]:
        return [
            S3Uri.parse(checkpoint_address(record.run, self.platform)),
            S3Uri(self.platform["buckets/runs"], f"runs/{record.run}/"),
            S3Uri.parse(output_address(record.run, self.platform)),
        ]


def _place(item: InputArtifact) -> str:
    """Return where an item stands in the container."""
    return f"{INPUTS}/{item.channel}/{item.own_name}".rstrip("/")


def _cost(plan: Plan) -> str:
    if not plan.cost_usd.high:
        return "an unknown cost (no price is known)"
    return f"{plan.cost_usd.low:.2f} to {plan.cost_usd.high:.2f} USD"
