"""The job to train, and the overrides of its keys, from wherever the service passes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.exit_codes import JOB_INVALID
from containers.entrypoint.errors import StartError
from containers.entrypoint.opt_ml import MlFolder

CHANNEL = "job"
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_SDK_KEYS = re.compile(r"(?i)(sagemaker_|_tuning_objective)")
"""Hyper-parameters that SageMaker's SDK and its tuning jobs add."""


@dataclass(frozen=True)
class JobRequest:
    """A job file, and its overrides as `key=value`."""

    job: Path
    overrides: tuple[str, ...] = ()

    @property
    def set_option(self) -> str:
        """The overrides as one argument of `--set`."""
        return shlex.join(self.overrides)


def read_job_request(
    given: Path | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    ml: MlFolder,
    scratch: Path,
) -> JobRequest:
    """Return the job to train.

    The first of these counts: the file on the command line, the file in `TEMPER_JOB`, the
    hyper-parameter `job` (text or path), the one YAML file in the input channel `job`. Every other
    hyper-parameter overrides the key of its name, which is how SageMaker's tuning jobs pass values.

    Args:
        given: Job file from the command line.
        overrides: Overrides from the command line.
        environment: Environment variables of this process.
        ml: SageMaker's folder, with hyper-parameters and channels.
        scratch: Temporary folder for a job that is passed as text.

    Raises:
        StartError: No job is given, several are, or a hyper-parameter is not a key.
    """
    parameters = {
        str(key): str(value) for key, value in ml.configuration("hyperparameters").items()
    }
    parameters = {key: value for key, value in parameters.items() if not _SDK_KEYS.match(key)}
    text = parameters.pop("job", "")
    extra = shlex.split(parameters.pop("set", ""))
    invalid = [key for key in parameters if not _KEY.fullmatch(key)]
    if invalid:
        raise StartError(
            f"hyper-parameters name keys of the job, such as train.learning_rate, and these are "
            f"not keys: {', '.join(map(repr, invalid))}",
            JOB_INVALID,
        )
    file = given or (Path(environment["TEMPER_JOB"]) if environment.get("TEMPER_JOB") else None)
    job = file or (_from_text(text, scratch) if text else _from_channel(ml))
    return JobRequest(
        job, (*(f"{key}={value}" for key, value in parameters.items()), *extra, *overrides)
    )


def _from_text(text: str, scratch: Path) -> Path:
    if "\n" not in text and not text.lstrip().startswith("{") and ":" not in text:
        return Path(text)
    path = scratch / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _from_channel(ml: MlFolder) -> Path:
    folder = ml.channels().get(CHANNEL)
    files = [] if folder is None else sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files)
        raise StartError(
            f"the channel {CHANNEL} must hold one job file, and has {names}", JOB_INVALID
        )
    channels = ", ".join(ml.channels()) or "none"
    where = f"; channels here: {channels}" if ml.exists else ""
    raise StartError(
        f"no job was given. Name its file (train JOB, or TEMPER_JOB), or put it into the input "
        f"channel {CHANNEL!r} or the hyper-parameter 'job'{where}",
        JOB_INVALID,
    )
