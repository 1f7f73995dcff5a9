"""The places where the trials of a search can run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from launch.errors import InvalidOptionError
from launch.targets import make_target
from search.job_file import SearchJob
from search.local_trial import LocalRunner
from search.remote_trial import RemoteRunner, TrialTarget
from search.trial_runner import TrialRunner

POLL_S = {"sagemaker": 15.0, "slurm": 3.0, "hyperpod": 10.0}
"""Seconds between two questions about a trial, by target."""


def trial_target(name: str, environment: str) -> TrialTarget | None:
    """Return the target of a name; None for this machine.

    Args:
        name: Name of the target.
        environment: Environment of the platform.

    Raises:
        InvalidOptionError: Trials cannot run there.
    """
    if name == "local":
        return None
    if name not in POLL_S:
        raise InvalidOptionError(
            f"--target {name}: trials run on local, {', '.join(POLL_S)}, not there"
        )
    target = make_target(name, "" if name == "slurm" else environment)
    if not hasattr(target, "fetch_reports"):  # HyperPod's cluster may be orchestrated by EKS
        raise InvalidOptionError(f"--target {name}: trials do not run on {target.name}")
    return cast(TrialTarget, target)


def make_runner(
    search: SearchJob,
    folder: Path,
    target: TrialTarget | None,
    environment: str,
    variables: Mapping[str, str] | None,
) -> TrialRunner:
    """Return the runner of a search's trials.

    Args:
        search: The search.
        folder: Its folder.
        target: Where its trials run; None for this machine.
        environment: Environment of the platform.
        variables: Further environment variables of trials on this machine.
    """
    if target is None:
        return LocalRunner(search.settings, str(search.path), variables)
    environment = "" if target.name == "slurm" else environment
    poll_s = POLL_S[target.name]
    return RemoteRunner(folder, search.settings, target, environment, search.path, poll_s)
