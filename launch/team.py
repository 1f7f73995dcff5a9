"""Runs of everyone in an environment, on every target that is configured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from launch.aws.platform_parameters import read_platform_parameters
from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment, read_environment
from launch.errors import LaunchError, NoSuchRunError
from launch.remote_runs import RECENT_DAYS, RemoteRun, printable
from launch.resolve_run import match_rows, newest_names
from launch.submission import TargetName
from launch.targets import eks, hyperpod, sagemaker, slurm
from training.errors import TemperError

if TYPE_CHECKING:
    from launch.targets.base import SharedTarget

_SLURM_VARIABLES = ("SLURM_LOGIN", "SLURM_ROOT")
_EKS_VARIABLES = ("EKS_CONTEXT", "EKS_NAMESPACE", "EKS_CLAIM")

Connect = Callable[[LaunchEnvironment], "SharedTarget"]


class TeamRuns:
    """Runs of an environment as its targets list them.

    SageMaker is always asked. HyperPod is asked if the environment has a cluster; Slurm and EKS
    if their variables name one.

    Args:
        environment: Name of the environment.

    Attributes:
        targets: Targets that could be reached, by name.
        runs: Runs of all of them, oldest first.
        unreadable: What is missing among the runs, and why.
    """

    def __init__(self, environment: str):
        self.environment = read_environment(environment)
        self.targets: dict[str, SharedTarget] = {}
        self.runs: list[RemoteRun] = []
        self.unreadable: list[str] = []

    def read(self, days: int | None = RECENT_DAYS) -> None:
        """Ask every target; one that cannot be asked is named in `unreadable`.

        Args:
            days: Age of the oldest run in days; None for all runs.
        """
        for name, connect in self._configured():
            try:
                target = connect(self.environment)
                listing = target.list_runs(days)
            except TemperError as error:
                self.unreadable.append(f"{name}: {error}")
                continue
            self.targets[name] = target
            self.runs += [self._of_environment(run) for run in listing.runs]
            self.unreadable += [printable(f"{name}: {line}") for line in listing.unreadable]
        self.runs.sort(key=lambda run: (run.created, run.run))

    def find(self, name: str) -> tuple[RemoteRun, SharedTarget]:
        """Return the run that a user means by `name`, the newest if several match, and its target.

        Raises:
            NoSuchRunError: No run matches.
            LaunchError: None matches, but a target could not be asked.
        """
        by_run = {run.run: run for run in self.runs}
        rows = [run.row() for run in self.runs]
        row = match_rows(rows, name.strip("/"))
        if row is not None:
            run = by_run[row.run]
            return run, self.targets[run.target]
        if self.unreadable:
            raise LaunchError(
                f"{name}: no such run among those that could be read. Not read: "
                + "; ".join(self.unreadable)
            )
        raise NoSuchRunError(
            f"{name}: no such run in the environment {self.environment.name}. "
            f"Available: {newest_names(rows)}"
        )

    def _of_environment(self, run: RemoteRun) -> RemoteRun:
        """Return a run that is safe to print; one of the environment's own has its name."""
        owned = run.target in ("sagemaker", "hyperpod")
        return replace(
            run,
            environment=self.environment.name if owned else printable(run.environment),
            creator=printable(run.creator),
            created=printable(run.created),
            status=replace(run.status, detail=printable(run.status.detail)),
        )

    def _configured(self) -> Iterator[tuple[TargetName, Connect]]:
        yield "sagemaker", sagemaker.from_environment
        account = AwsSession(self.environment)
        try:
            platform = read_platform_parameters(self.environment, account.client("ssm"))
            has_cluster = platform.get("hyperpod/cluster") is not None
        except LaunchError:
            has_cluster = False  # SageMaker needs the same parameters, and reports the reason
        if has_cluster:
            yield "hyperpod", hyperpod.from_environment
            return
        # A cluster that the environment does not own has nothing but variables that name it.
        if any(os.environ.get(variable) for variable in _SLURM_VARIABLES):
            yield "slurm", slurm.from_environment
        if any(os.environ.get(variable) for variable in _EKS_VARIABLES):
            yield "eks", eks.from_environment
