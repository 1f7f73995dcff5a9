"""Preparation in a container: on every node of a SageMaker processing job, or on one machine.

The image `prepare` runs `python -m containers.entrypoint prepare [JOB] [--set KEY=VALUE …]`, which
runs `python -m temper prepare`. A request for a processing job (`CreateProcessingJob`) relies on:

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
  end with 0. `ExitMessage` is the error, or what was written and where; at most 1 KB. A node that
  was ended by the failure of another writes no message, since those of all nodes are joined.
- **Stop.** SIGTERM and SIGINT end the preparation, whose finished units stay; a job with the same
  files and the same code resumes it.

Outside SageMaker, `podman run -v "$PWD:/data" -w /data IMAGE prepare JOB` prepares files here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from catalog.exit_codes import RUN_FAILED, STOPPED
from containers.entrypoint.errors import StartError
from containers.entrypoint.processing import ProcessingFolder

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_KEPT_LINES = 200
_RESULT_LINES = 3
"""Last lines of a finished preparation: counts, report, and how to train on it."""
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


@dataclass(frozen=True)
class _Ended:
    """End of the command.

    Attributes:
        code: Exit code in the shell's convention (128 + signal).
        output: Last lines of its standard output.
        errors: Last lines of its standard error.
        stopped_by: Signal that this process received; None if it received none.
    """

    code: int
    output: tuple[str, ...]
    errors: tuple[str, ...]
    stopped_by: int | None


def prepare(options: PrepareOptions) -> int:
    """Prepare data, and return the exit code of the container."""
    folder = ProcessingFolder.current()
    try:
        ended = _run(_command(options, folder), _environment(folder))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        folder.write_message(str(error))
        return error.exit_code
    code, message = outcome(ended.code, ended.output, ended.errors, ended.stopped_by)
    folder.write_message(message)
    if code != ended.code:
        sys.stderr.write(f"{message}\n")
    return code


def outcome(
    code: int, output: tuple[str, ...], errors: tuple[str, ...], stopped_by: int | None
) -> tuple[int, str]:
    """Return the exit code and the message of a container.

    Args:
        code: Exit code of the command.
        output: Last lines of its standard output.
        errors: Last lines of its standard error.
        stopped_by: Signal that ended the container; None if it received none.
    """
    if code == 0:
        return 0, "\n".join(output[-_RESULT_LINES:])
    if stopped_by is not None:
        name = signal.Signals(stopped_by).name
        return STOPPED, f"stopped by {name}; a job with the same files resumes the preparation"
    if code > 128:
        return RUN_FAILED, (
            f"the preparation was ended by signal {code - 128}, most often because memory ran out. "
            "The same job resumes it; a larger instance, or fewer prepare.workers, give each "
            "worker more memory"
        )
    text = "\n".join(errors).strip()
    if "Traceback (most recent call last)" in text:
        return RUN_FAILED, f"unexpected error: {text.splitlines()[-1]} (the log has the traceback)"
    if _OTHER_NODE.match(text):
        return code, ""
    return code, text


def _command(options: PrepareOptions, folder: ProcessingFolder) -> list[str]:
    named = options.job or (Path(job) if (job := os.environ.get("TEMPER_JOB")) else None)
    job = str(named or folder.job_file())
    settings = ["--set", *options.overrides] if options.overrides else []
    return [sys.executable, "-m", "temper", "prepare", job, *settings]


def _environment(folder: ProcessingFolder) -> dict[str, str]:
    region = os.environ.get("AWS_REGION") or folder.region()
    return {**os.environ, **({"AWS_REGION": region} if region else {})}


def _run(command: list[str], environment: Mapping[str, str]) -> _Ended:
    """Run a command, repeat what it prints, and keep the last lines of both streams."""
    output: deque[str] = deque(maxlen=_KEPT_LINES)
    errors: deque[str] = deque(maxlen=_KEPT_LINES)
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    with _forwarded_signals(process) as received:
        threads = [
            threading.Thread(target=_repeat, args=streams, daemon=True)
            for streams in (
                (process.stdout, sys.stdout, output),
                (process.stderr, sys.stderr, errors),
            )
        ]
        for thread in threads:
            thread.start()
        code = process.wait()
        for thread in threads:
            thread.join()
    stopped_by = received[0] if received else None
    return _Ended(code if code >= 0 else 128 - code, tuple(output), tuple(errors), stopped_by)


def _repeat(source: TextIO, target: TextIO, lines: deque[str]) -> None:
    for line in source:
        target.write(line)
        target.flush()
        lines.append(line.rstrip("\n"))


@contextmanager
def _forwarded_signals(process: subprocess.Popen[str]) -> Iterator[list[int]]:
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
