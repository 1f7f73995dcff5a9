"""Submission of a job: plan it, get the user's confirmation, and send it at most once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from catalog.managed_training import JUMPSTART, is_managed_name
from launch.aws.read_object import read_object
from launch.confirm import accept_license, confirm
from launch.errors import LaunchError
from launch.prepared_job import PreparedJob
from launch.status import Status
from launch.submission import (
    MANAGED,
    Attempt,
    Submission,
    TargetName,
    attempt_name,
    current_user,
    new_run_id,
    now,
    read_submission,
)
from launch.targets.base import ResolvesModels, Target
from planning import Plan, make_plan
from planning.hf_config import read_s3_with
from planning.managed.plan import managed_plan
from training.config import Job, Pipeline, load_job
from training.config.adapter_bases import with_recorded_bases
from training.config.input_paths import require_inputs
from training.config.locations import locations
from training.config.model import in_registry
from training.errors import JobError, Problem, TemperError
from training.run_folder import RunFolder, differences, resolved_yaml, write_whole

Print = Callable[[str], None]


@dataclass(frozen=True)
class SubmitRequest:
    """Request of a user to submit a job.

    Attributes:
        job: Path of the job file.
        overrides: `key=value` pairs for the job.
        target: Target that should execute it.
        environment: Environment of the platform; empty for targets that need none.
        runs: Folder of all run folders.
        fresh: Start a new run even if an unfinished one could be resumed.
        run: Run to resume; if empty, the newest one that can be resumed.
        accept_eula: Whether the user accepts the license of the model.
    """

    job: Path
    overrides: str
    target: TargetName
    environment: str
    runs: Path = Path("runs")
    fresh: bool = False
    run: str = ""
    accept_eula: bool = False


def submit(request: SubmitRequest, target: Target, print_line: Print) -> Submission:
    """Plan a job, ask for confirmation and submit it, or attach to it if it already runs.

    Args:
        request: The job, and where it should run.
        target: Target that the request names.
        print_line: Prints a line to the user.

    Raises:
        TemperError: The job was not submitted. Nothing runs and nothing is charged, unless the
            message says that this is unknown.
    """
    source = str(request.job)
    job = load_job(request.job, request.overrides)
    job = resolve_registered_models(job, request.job, request.target, request.environment)
    _require_target_of_models(job, request, source)
    if isinstance(target, ResolvesModels):
        job = target.resolve_models(job, source)
    for line in require_inputs(job, request.job.parent):
        print_line(line)
    job = with_recorded_bases(job)
    managed = request.target in MANAGED
    plan = managed_plan(job, ()) if managed else plan_or_refuse(job, source)
    prepared = PreparedJob(apply_plan(job, plan), plan, source)
    submission, status = _find_unfinished(request, prepared.job, target)
    if submission is not None and status.state in ("training", "stopping"):
        print_line(f"{submission.run} is {status.state} already: {submission.latest.name}")
        return submission
    quote = target.quote(prepared)
    for line in quote.lines:
        print_line(line)
    if quote.agreement:
        accept_license(quote.agreement, accepted=request.accept_eula)
    if quote.question:
        confirm(quote.question)
    if submission is None:
        submission = _create(request, prepared.job, target.job_prefix)
    elif status.state != "planned":
        submission = submission.with_new_attempt(target.job_prefix)
        resumed = "from its first step" if managed else "from its last checkpoint"
        print_line(f"resuming {submission.run} {resumed} (--fresh starts over)")
    return send(submission, prepared, target)


def _require_target_of_models(job: Job | Pipeline, request: SubmitRequest, source: str) -> None:
    """Raise if a job names a model of AWS that its target does not have.

    Raises:
        JobError: It does.
    """
    if request.target in (*MANAGED, "jumpstart", "local"):
        return
    problems = [
        Problem(
            location.path,
            f"is a model of AWS, which --target {request.target} does not read",
            location.value,
            "Use --target jumpstart, or --target sagemaker-serverless"
            if location.value.startswith(JUMPSTART)
            else "Use --target bedrock-customization, or --target sagemaker-serverless",
        )
        for location in locations(job)
        if is_managed_name(location.value)
    ]
    if problems:
        raise JobError(source, problems)


def resolve_registered_models(
    job: Job | Pipeline, job_file: Path, target: TargetName, environment: str
) -> Job | Pipeline:
    """Return the job with the versions of the model registry that it names replaced by addresses.

    Args:
        job: The job.
        job_file: Its file.
        target: Target that is to execute it.
        environment: Environment of the platform, whose registry it names.

    Raises:
        ModelError: The run is one of this machine, which downloads none.
        LaunchError: There is no such version, or it is not approved.
    """
    if not any(in_registry(location.value) for location in locations(job)):
        return job
    if target == "local":
        require_inputs(job, job_file.parent, here=True)
    # Imported here: boto3 takes a noticeable time, and few jobs name a version.
    from launch.aws.model_registry import with_registered_models
    from launch.aws.session import AwsSession
    from launch.environment import read_environment

    account = AwsSession(read_environment(environment))
    return with_registered_models(job, account.client("sagemaker"))


def with_image(job: Path, overrides: str, image: str) -> str:
    """Return overrides that make a job train in a container image.

    Args:
        job: Path of the job file.
        overrides: `key=value` pairs that the user gave.
        image: Name of the image; empty to return the overrides unchanged.
    """
    if not image:
        return overrides
    prefix = "stages.0." if isinstance(load_job(job, overrides), Pipeline) else ""
    return f"{overrides} {prefix}resources.image={image}".strip()


def plan_or_refuse(job: Job | Pipeline, source: str) -> Plan:
    """Return the plan of a job.

    Raises:
        JobError: The job does not fit into memory or disk, or could exceed its cost limit.
    """
    read_s3_with(read_object)
    plan = make_plan(job)
    if not plan.fits:
        raise JobError(source, [Problem("plan", reason) for reason in plan.refused])
    return plan


def apply_plan(job: Job | Pipeline, plan: Plan) -> Job | Pipeline:
    """Return the job with the plan's choices (batch size, sharding, …) written into it."""
    if isinstance(job, Pipeline):
        return plan.apply(job)
    return plan.apply(job)


def _find_unfinished(
    request: SubmitRequest, job: Job | Pipeline, target: Target
) -> tuple[Submission | None, Status]:
    """Return the newest unfinished run of this job on this target, and its status.

    Only the newest run on the target counts: resuming an older one would silently skip what the
    user started last.

    Raises:
        LaunchError: The request names a run of a different job.
    """
    nothing = Status("planned")
    if request.fresh:
        return None, nothing
    home = request.runs / job.name
    folders = [request.runs / request.run] if request.run else sorted(home.glob("*"), reverse=True)
    for folder in folders:
        submission = None if folder.is_symlink() else read_submission(folder)
        if submission is None or submission.target != request.target:
            continue
        if submission.adopted:
            continue  # the run of another machine, which this job file did not start
        if submission.environment != request.environment:
            continue
        if changed := differences(job, RunFolder(folder).job):
            if request.run:
                raise LaunchError(
                    f"{request.run} cannot be resumed with a different job: "
                    f"{', '.join(changed[:4])} would change. temper train starts a new run"
                )
            return None, nothing
        status = target.status(submission)
        finished = status.state in ("not deployed", "deploying", "deployed")
        return (None, nothing) if finished else (submission, status)
    return None, nothing


def _create(request: SubmitRequest, job: Job | Pipeline, job_prefix: str) -> Submission:
    """Create the run folder of a request and choose the job's name, before anything is sent.

    Raises:
        LaunchError: The folder cannot be written.
    """
    run = f"{job.name}/{new_run_id()}"
    folder = request.runs / run
    if folder.exists():
        raise LaunchError(f"{folder} cannot be written: it exists")
    return create_submission(
        folder, run, job, target=request.target, environment=request.environment, prefix=job_prefix
    )


def create_submission(
    folder: Path,
    run: str,
    job: Job | Pipeline,
    *,
    target: TargetName,
    environment: str,
    prefix: str,
) -> Submission:
    """Create a run folder and choose the job's name, before anything is sent.

    Args:
        folder: Run folder on this machine.
        run: `<name>/<run id>`.
        job: The job with the choices of its plan.
        target: Target that is to execute it.
        environment: Environment of the platform; empty for targets that need none.
        prefix: First part of the job's name on the target.

    Raises:
        LaunchError: The folder cannot be written.
    """
    submission = Submission(
        folder=folder,
        run=run,
        target=target,
        environment=environment,
        creator=current_user(),
        created=now(),
        attempts=(Attempt(attempt_name(run, 1, prefix), requested_at=now()),),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "job.yaml", resolved_yaml(job))
        submission.write()
    except OSError as error:
        raise LaunchError(f"{folder} cannot be written: {error.strerror or error}") from error
    return submission


def send(submission: Submission, prepared: PreparedJob, target: Target) -> Submission:
    """Send a run to its target, and undo the local changes if it was certainly not accepted.

    If the target cannot be asked whether it has the job, the record stays: the job may exist, and
    the name in the record is the only way to find it again.

    Args:
        submission: The run, whose latest attempt is to be sent.
        prepared: Its job.
        target: Its target.

    Raises:
        TemperError: The target rejected the run, or could not be reached.
    """
    folder = submission.folder
    previous = read_submission(folder)
    submission.write()
    write_whole(folder / "job.yaml", resolved_yaml(prepared.job))
    prepared.plan.write(folder / "plan.json")
    try:
        return target.submit(submission, prepared)
    except TemperError:
        if _was_not_accepted(submission, target):
            if len(submission.attempts) > 1 and previous is not None:
                previous.write()
            else:
                shutil.rmtree(folder, ignore_errors=True)
        raise


def _was_not_accepted(submission: Submission, target: Target) -> bool:
    try:
        return target.status(submission).state == "planned"
    except TemperError:
        return False
