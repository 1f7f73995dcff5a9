"""SageMaker training jobs: one CreateTrainingJob for each attempt of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.aws.archive import unpack_model
from launch.aws.jobs import TrainingJobs, machine_seconds, read_status
from launch.aws.logs import LogReader, follow_log
from launch.aws.platform import Platform, read_platform
from launch.aws.request import (
    INPUTS,
    JOB_CHANNEL,
    JOB_FILE,
    Order,
    checkpoint_address,
    output_address,
    training_job,
)
from launch.aws.session import Account, explained
from launch.aws.store import Address, Store
from launch.baggage import Item, endpoints, hub_names, missing_channels, pack, unpack
from launch.environment import Environment
from launch.errors import LaunchError
from launch.machines import image_kind, resources_of, runs_of
from launch.plan import Plan
from launch.record import Record, TargetName, read_record
from launch.status import Status
from launch.targets.protocol import Offer, Sent
from training.config import Job, Pipeline
from training.errors import JobError, Problem

_MOST_CHANNELS = 20
_NOT_FETCHED = frozenset(("job.yaml", "status.json", "failure.json", ".lock"))
"""What the run folder here has of its own, or must not take over from there."""


def of(environment: Environment | None) -> SageMaker:
    """Return the account of an environment."""
    if environment is None:
        raise LaunchError("TARGET=sagemaker needs an environment: ENV=dev")
    return SageMaker(Account(environment))


class SageMaker:
    """Jobs in the account of one environment.

    Args:
        account: Whose.
    """

    name: TargetName = "sagemaker"

    def __init__(self, account: Account):
        self.account = account

    @cached_property
    def platform(self) -> Platform:
        """What the environment published."""
        return read_platform(self.account.environment, self.account.client("ssm"))

    @cached_property
    def store(self) -> Store:
        """Its buckets."""
        return Store(self.account.client("s3"))

    @cached_property
    def jobs(self) -> TrainingJobs:
        """Its training jobs."""
        return TrainingJobs(self.account.client("sagemaker"))

    def offer(self, job: Job | Pipeline, plan: Plan, source: str) -> Offer:
        """Check the job against the account, and say what would be made and paid for."""
        resources = resources_of(job, source, "sagemaker")
        assert resources.instance is not None
        self.account.caller()
        items = pack(job)
        if problems := self._problems(job, items):
            raise JobError(source, problems)
        for item in items:
            if item.path is None:
                self.store.refuse_empty(item.key, Address.parse(item.address))
        where = self.account.environment
        cost = _cost(plan)
        return Offer(
            (
                f"{resources.count} × {resources.instance}{', spot' * resources.spot}, "
                f"{where.region} ({where.name})",
                f"image {resources.image or self.platform.image(image_kind(resources.instance))}",
                *(item.described for item in items),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h, {cost}",
            ),
            f"Start {job.name} for {cost}?",
        )

    def _problems(self, job: Job | Pipeline, items: list[Item]) -> list[Problem]:
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

    def submit(self, sent: Sent, job: Job | Pipeline, plan: Plan) -> Record:
        """Copy what the job needs, create the training job, and keep its ARN."""
        request = self.request(sent.record, job, plan)
        now = read_record(sent.folder)
        if now is not None and now.cancelled:
            raise LaunchError(f"{now.run} was stopped before it was submitted: nothing runs")
        record = sent.record.accepted(self.jobs.create(request))
        record.write(sent.folder)
        return record

    def request(self, record: Record, job: Job | Pipeline, plan: Plan) -> dict[str, Any]:
        """Put a run's baggage in its place and return the request for its latest attempt."""
        resources = resources_of(job, record.run, "sagemaker")
        items = pack(job)
        channels = {item.channel: str(self._put(item)) for item in items}
        home = Address(self.platform["buckets/runs"], f"runs/{record.run}/job")
        self.store.put_text(unpack(job, items, _place), home / JOB_FILE)
        order = Order(
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

    def _put(self, item: Item) -> Address:
        if item.path is None:
            return Address.parse(item.address)
        return self.store.put_item(item, self.platform["buckets/data"])

    def _with_lustre(self) -> Platform:
        """Return the platform with its file system's mount name, which only FSx knows."""
        with explained("asking for the file system's mount name"):
            answer = self.account.client("fsx").describe_file_systems(
                FileSystemIds=[self.platform["lustre/file-system"]]
            )
        mount = answer["FileSystems"][0]["LustreConfiguration"]["MountName"]
        return dataclasses.replace(self.platform, lustre_mount=mount)

    def status(self, sent: Sent) -> Status:
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

    def _seconds_before(self, record: Record) -> float:
        earlier = (self.jobs.find(attempt.name) for attempt in record.attempts[:-1])
        return sum(machine_seconds(found) for found in earlier if found)

    def logs(self, sent: Sent, *, follow: bool) -> Iterator[str]:
        """Yield the lines of the latest attempt, from CloudWatch."""
        group, name = self.platform["training/log-group"], sent.record.latest.name
        reader = LogReader(self.account.client("logs"), group, name)
        if follow:
            yield from follow_log(reader, lambda: self.status(sent).is_over)
        else:
            yield from reader.new_lines()

    def stop(self, sent: Sent) -> str:
        """Stop the job, or keep it from being submitted."""
        name = sent.record.latest.name
        if self.jobs.find(name) is None:
            dataclasses.replace(sent.record, cancelled=True).write(sent.folder)
            return f"{name} was not submitted yet, and will not be"
        return self.jobs.stop(name)

    def fetch(self, sent: Sent, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Bring the model and the record of the run."""
        brought = self._fetch_record(sent, checkpoints=checkpoints)
        found = self.jobs.find(sent.record.latest.name) or {}
        address = found.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        packed, model = sent.folder / "model.tar.gz", sent.folder / "model"
        if not address or not self.store.get_file(Address.parse(address), packed):
            return brought
        if archive:
            return [packed, *brought]
        unpack_model(packed, model)
        packed.unlink()
        return [model, *brought]

    def _fetch_record(self, sent: Sent, *, checkpoints: bool) -> list[Path]:
        """Bring what the run wrote beside its model: metrics, samples, report."""
        prefix = Address.parse(checkpoint_address(sent.record.run, self.platform))
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

    def belongings(self, sent: Sent) -> list[tuple[str, int]]:
        """Return what the run keeps in S3, with bytes."""
        return [(str(p), self.store.size_bytes(p)) for p in self._prefixes(sent.record)]

    def delete(self, sent: Sent) -> list[str]:
        """Delete a run's objects. What the platform protects (models) stays, and is named."""
        kept = []
        for prefix in self._prefixes(sent.record):
            try:
                self.store.delete(prefix)
            except LaunchError as error:
                kept.append(str(error))
        return kept

    def _prefixes(self, record: Record) -> list[Address]:
        return [
            Address.parse(checkpoint_address(record.run, self.platform)),
            Address(self.platform["buckets/runs"], f"runs/{record.run}/"),
            Address.parse(output_address(record.run, self.platform)),
        ]


def _place(item: Item) -> str:
    """Return where an item stands in the container."""
    return f"{INPUTS}/{item.channel}/{item.own_name}".rstrip("/")


def _cost(plan: Plan) -> str:
    if not plan.cost_usd.high:
        return "an unknown cost (no price is known)"
    return f"{plan.cost_usd.low:.2f} to {plan.cost_usd.high:.2f} USD"
