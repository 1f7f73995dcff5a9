"""Preparation in a container: on every node of a SageMaker processing job, or on one machine.

The image `prepare` runs `python -m containers.entrypoint prepare [JOB] [--set KEY=VALUE …]`, which
runs `python -m preparation`, as `temper prepare` does. A request for a processing job
(`CreateProcessingJob`) relies on:

- **Command.** `prepare` is the image's default: `AppSpecification` needs `ImageUri` alone. With
  `ContainerArguments`, the first is `prepare`: `["prepare", "--set", "prepare.workers=4"]`.
- **Job.** The first of these counts: the argument JOB, the variable `TEMPER_JOB`, the one YAML file
  in `/opt/ml/processing/input/job`, an input (`ProcessingInput`) with that `LocalPath`.
- **Sources.** Inputs of the request at `LocalPath`s below `/opt/ml/processing/input/`, with
  `S3DataType: S3Prefix`, `S3InputMode: File` and `S3DataDistributionType: FullyReplicated`, since
  each node reads units of every source. The job names these paths. The last part of a path is the
  name that the source has on the user's machine, since it is part of the digest: the folder
  `tickets` is put at `…/input/source-0/tickets`, and the file `a.jsonl` into `…/input/source-1`.
- **Result.** `prepare.output: s3://BUCKET/prepared`, which the nodes share, with the data bucket of
  the platform. It is written directly, so `ProcessingOutputConfig` has no `Outputs`; its `KmsKeyId`
  is required by the engineer role. The role of the job may write nothing outside `prepared/`.
- **Nodes.** `hosts` and `current_host` of `/opt/ml/config/resourceconfig.json`. Files by which
  nodes tell each other of a failure bear the job's name, from `processingjobconfig.json`: a second
  job that resumes the preparation is not ended by those of the first.
- **Region.** That of `ProcessingJobArn` in `processingjobconfig.json`, unless `AWS_REGION` is set.
- **Network.** `EnableNetworkIsolation` must be off: with it, the container cannot reach S3.
- **End.** Exit code 0, 2 the job, 3 the data, 4 the run, 75 stopped; the job completes if all nodes
  end with 0. `ExitMessage` is the error, or of the first node the counts of rows and, on the last
  line, the folder of the data set; at most 1 KB. A node that was ended by the failure of another
  writes no message, since those of all nodes are joined.
- **Stop.** SIGTERM and SIGINT end the preparation, whose finished units stay; a job with the same
  files and the same code resumes it.

Outside SageMaker, `podman run -v "$PWD:/data" -w /data IMAGE prepare JOB` prepares files here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from catalog.exit_codes import RUN_FAILED, STOPPED
from containers.entrypoint.errors import StartError
from containers.entrypoint.processing import ProcessingFolder

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OTHER_NODE = re.compile(r"node \d+ failed: ")


@dataclass(frozen=True)
class PrepareOptions:
    """Options of the command line.

    Attributes:
        job: Job file; None if the service passes it another way.
        overrides: `key=value` for keys of the job.
    """

    job: Path | None = None
    overrides: tuple[str, ...] = ()


def prepare(options: PrepareOptions) -> int:
    """Prepare data, and return the exit code of the container."""
    folder = ProcessingFolder.current()
    try:
        with tempfile.TemporaryDirectory(prefix="temper-") as scratch:
            outcome = Path(scratch) / "outcome.json"
            code, stopped_by = _run([*_command(options, folder), f"--outcome={outcome}"], folder)
            said = json.loads(outcome.read_text())["message"] if outcome.is_file() else ""
        code, message = explain_end(code, said, stopped_by)
        if not said:
            sys.stderr.write(f"{message}\n")
        if code == 0 and not folder.is_first:
            message = ""
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        code, message = error.exit_code, str(error)
    folder.write_message(message)
    return code


def explain_end(code: int, said: str, stopped_by: int | None) -> tuple[int, str]:
    """Return the exit code and the message of a container.

    Args:
        code: Exit code of the command, in the shell's convention (128 + signal).
        said: Its result or error; empty if it could not say any.
        stopped_by: Signal that this process received; None if it received none.
    """
    if code and stopped_by is not None:
        name = signal.Signals(stopped_by).name
        return STOPPED, f"stopped by {name}; a job with the same files resumes the preparation"
    if said:
        return code, "" if _OTHER_NODE.match(said) else said
    if code > 128:
        return RUN_FAILED, (
            f"the preparation was ended by signal {code - 128}, most often because memory ran out. "
            "The same job resumes it; a larger instance, or fewer prepare.workers, give each "
            "worker more memory"
        )
    return (code if code == 2 else RUN_FAILED), "unexpected error: the log has the details"


def _command(options: PrepareOptions, folder: ProcessingFolder) -> list[str]:
    named = options.job or (Path(job) if (job := os.environ.get("TEMPER_JOB")) else None)
    job = str(named or folder.job_file())
    settings = ["--set", *options.overrides] if options.overrides else []
    return [sys.executable, "-m", "preparation", job, *settings]


def _run(command: Sequence[str], folder: ProcessingFolder) -> tuple[int, int | None]:
    """Run a command; return its exit code, and the signal that this process received."""
    region = os.environ.get("AWS_REGION") or folder.region()
    environment: Mapping[str, str] = {**os.environ, **({"AWS_REGION": region} if region else {})}
    process = subprocess.Popen(command, env=environment)
    with _forwarded_signals(process) as received:
        code = process.wait()
    return code if code >= 0 else 128 - code, received[0] if received else None


@contextmanager
def _forwarded_signals(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Forward signals to a process; yield the list of those received."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
