"""What is to be trained: the job file, and what overrides its keys."""

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
_NOT_FOR_US = re.compile(r"(?i)(sagemaker_|_tuning_objective)")
"""What SageMaker's SDK and its tuning add by themselves."""


@dataclass(frozen=True)
class JobRequest:
    """A job file, and overrides for it as `key=value`."""

    job: Path
    overrides: tuple[str, ...] = ()

    @property
    def set_option(self) -> str:
        """The overrides in one string, as `--set` reads them."""
        return shlex.join(self.overrides)


def read_job_request(
    given: Path | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    ml: MlFolder,
    scratch: Path,
) -> JobRequest:
    """Return what is to be trained.

    The job is the file on the command line, in `TEMPER_JOB`, in the hyper-parameter `job` (its text
    or its path) or in the input channel `job`. Every other hyper-parameter overrides the key it is
    named for, as SageMaker's tuning needs it.

    Args:
        given: From the command line.
        overrides: From the command line.
        environment: Of this process.
        ml: Where SageMaker leaves the rest.
        scratch: Takes a job that comes as text.

    Raises:
        StartError: There is no job, or no single one.
    """
    told = {str(key): str(value) for key, value in ml.configuration("hyperparameters").items()}
    told = {key: value for key, value in told.items() if not _NOT_FOR_US.match(key)}
    text = told.pop("job", "")
    extra = shlex.split(told.pop("set", ""))
    strange = [key for key in told if not _KEY.fullmatch(key)]
    if strange:
        raise StartError(
            f"hyper-parameters name keys of the job, such as train.learning_rate, and these cannot "
            f"be any: {', '.join(map(repr, strange))}",
            JOB_INVALID,
        )
    named = given or (Path(environment["TEMPER_JOB"]) if environment.get("TEMPER_JOB") else None)
    job = named or (_written(text, scratch) if text else _in_channel(ml))
    return JobRequest(job, (*(f"{key}={value}" for key, value in told.items()), *extra, *overrides))


def _written(text: str, scratch: Path) -> Path:
    if "\n" not in text and not text.lstrip().startswith("{") and ":" not in text:
        return Path(text)
    path = scratch / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _in_channel(ml: MlFolder) -> Path:
    folder = ml.channels().get(CHANNEL)
    found = [] if folder is None else sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise StartError(
            f"the channel {CHANNEL} must hold one job file, and has {names}", JOB_INVALID
        )
    channels = ", ".join(ml.channels()) or "none"
    where = f"; channels here: {channels}" if ml.is_there else ""
    raise StartError(
        f"no job was given. Name its file (train JOB, or TEMPER_JOB), or put it into the input "
        f"channel {CHANNEL!r} or the hyper-parameter 'job'{where}",
        JOB_INVALID,
    )
