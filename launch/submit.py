"""From a job file to a run on a target: planned, agreed to, and sent at most once."""

from __future__ import annotations

import dataclasses
import getpass
import shutil
from collections.abc import Callable
from pathlib import Path

from launch.confirm import confirm
from launch.errors import LaunchError
from launch.status import Status
from launch.submission_record import (
    Attempt,
    SubmissionRecord,
    TargetName,
    attempt_name,
    new_run_id,
    now,
    read_submission_record,
)
from launch.targets.base import Submission, Target
from planning import Plan, make_plan
from training.config import Job, Pipeline, load_job
from training.errors import JobError, Problem, TemperError
from training.run_folder import RunFolder, differences, resolved_yaml, write_whole

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class SubmitRequest:
    """What a person asked for.

    Attributes:
        job: The job file.
        overrides: `key=value` pairs for it.
        target: Where it is to run.
        environment: Of the platform.
        runs: Where run folders are.
        fresh: Begin a new run even where one could go on.
        run: The run to go on with; the newest that can, when empty.
    """

    job: Path
    overrides: str
    target: TargetName
    environment: str
    runs: Path = Path("runs")
    fresh: bool = False
    run: str = ""


def submit(wish: SubmitRequest, target: Target, say: Say) -> Submission:
    """Plan a job, ask, and send it; attach to it where it was sent already.

    Raises:
        TemperError: With whatever keeps it from being sent. Then nothing runs and nothing is paid
            for, unless the message says that this is not known.
    """
    job = load_job(wish.job, wish.overrides)
    plan = plan_or_refuse(job, str(wish.job))
    job = _with_choices(job, plan)
    sent, status = _unfinished(wish, job, target)
    if sent is not None and status.state in ("training", "stopping"):
        say(f"{sent.record.run} is {status.state} already: {sent.record.latest.name}")
        return sent
    offer = target.offer(job, plan, str(wish.job))
    for line in offer.lines:
        say(line)
    if offer.question:
        confirm(offer.question)
    if sent is None:
        sent = _begin(wish, job)
    elif status.state != "planned":
        sent = dataclasses.replace(sent, record=sent.record.again())
        say(f"going on with {sent.record.run} from its last checkpoint (FRESH=1 starts over)")
    return _send(sent, job, plan, target)


def with_image(job: Path, overrides: str, image: str) -> str:
    """Return overrides that let a job train in an image."""
    if not image:
        return overrides
    first = "stages.0." if isinstance(load_job(job, overrides), Pipeline) else ""
    return f"{overrides} {first}resources.image={image}".strip()


def plan_or_refuse(job: Job | Pipeline, source: str) -> Plan:
    """Return the plan of a job.

    Raises:
        JobError: It does not fit, or could cost more than it may.
    """
    plan = make_plan(job)
    if not plan.fits:
        raise JobError(source, [Problem("plan", reason) for reason in plan.refused])
    return plan


def _with_choices(job: Job | Pipeline, plan: Plan) -> Job | Pipeline:
    """Return the job with what the plan chose for it written into it."""
    if isinstance(job, Pipeline):
        return plan.apply(job)
    return plan.apply(job)


def creator() -> str:
    """Return who this is, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _unfinished(
    wish: SubmitRequest, job: Job | Pipeline, target: Target
) -> tuple[Submission | None, Status]:
    """Return the newest run of this job on this target if it is not done, and where it stands."""
    nothing = Status("planned")
    if wish.fresh:
        return None, nothing
    home = wish.runs / job.name
    for folder in [wish.runs / wish.run] if wish.run else sorted(home.glob("*"), reverse=True):
        record = None if folder.is_symlink() else read_submission_record(folder)
        if record is None or record.target != wish.target:
            continue
        if record.environment != wish.environment:
            continue
        if changed := differences(job, RunFolder(folder).job):
            if wish.run:
                raise LaunchError(
                    f"{wish.run} cannot go on with another job: {', '.join(changed[:4])} would "
                    "change. make train begins a new run"
                )
            return None, nothing
        sent = Submission(folder, record)
        status = target.status(sent)
        done = status.state in ("not deployed", "deploying", "deployed")
        return (None, nothing) if done else (sent, status)
    return None, nothing


def _begin(wish: SubmitRequest, job: Job | Pipeline) -> Submission:
    """Make the run's folder and choose its job's name, before anything is sent."""
    run = f"{job.name}/{new_run_id()}"
    folder = wish.runs / run
    record = SubmissionRecord(
        run=run,
        target=wish.target,
        environment=wish.environment,
        creator=creator(),
        created=now(),
        attempts=(Attempt(attempt_name(run, 1), asked=now()),),
    )
    try:
        folder.mkdir(parents=True)
        write_whole(folder / "job.yaml", resolved_yaml(job))
        record.write(folder)
    except OSError as error:
        raise LaunchError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Submission(folder, record)


def _send(sent: Submission, job: Job | Pipeline, plan: Plan, target: Target) -> Submission:
    """Send a run; where it certainly was not accepted, leave things as they were."""
    earlier = read_submission_record(sent.folder)
    sent.record.write(sent.folder)
    write_whole(sent.folder / "job.yaml", resolved_yaml(job))
    plan.write(sent.folder / "plan.json")
    try:
        return dataclasses.replace(sent, record=target.submit(sent, job, plan))
    except TemperError:
        if _is_surely_not_there(sent, target):
            if len(sent.record.attempts) > 1 and earlier is not None:
                earlier.write(sent.folder)
            else:
                shutil.rmtree(sent.folder, ignore_errors=True)
        raise


def _is_surely_not_there(sent: Submission, target: Target) -> bool:
    try:
        return target.status(sent).state == "planned"
    except TemperError:
        return False
