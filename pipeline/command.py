"""Implementation of `temper pipeline run`, `status` and `render`."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path

from catalog.exit_codes import RUN_FAILED
from launch.confirm import confirm
from launch.errors import LaunchError
from launch.submission import current_user, now
from pipeline.commands import CommandRunner
from pipeline.config import DeployStep, RegisterStep
from pipeline.context import PipelineContext
from pipeline.executed_results import bring, executed_results
from pipeline.load import LoadedPipeline, load_pipeline
from pipeline.run import RunOptions, run_pipeline
from pipeline.state import PipelineFolder, PipelineRun, StepResult
from registry.table import aligned
from training.console import say
from training.run_folder import write_whole


@dataclass(frozen=True)
class PipelineOptions:
    """Options of `temper pipeline run`.

    Attributes:
        file: Pipeline file.
        overrides: `key=value` pairs for it, separated by spaces.
        registry: Folder of the registry.
        runs: Folder of run folders.
        home: Folder of all pipelines.
        env: Environment of AWS to register and deploy in; None to stay on this machine.
        package: ARN of the model package of an execution, whose results are taken for those of the
            steps up to the evaluation; None to run all steps here.
        run: Options of the run.
    """

    file: Path
    registry: Path
    runs: Path
    home: Path
    env: str | None
    overrides: str
    run: RunOptions
    package: str | None = None


def run_here(options: PipelineOptions) -> int:
    """Run a pipeline on this machine, or resume it, and return the exit code.

    Raises:
        LaunchError: A package is named without an environment.
        TemperError: The file has problems, or a step failed or was stopped.
    """
    if options.package is not None and options.env is None:
        raise LaunchError("--package names a model in an account: add --env")
    pipeline = load_pipeline(options.file, options.overrides)
    folder = PipelineFolder(options.home / pipeline.spec.name)
    if options.env is not None:
        confirm(_question(pipeline, options.env))
    # The user has agreed to the whole pipeline above, so that no step asks again.
    commands = CommandRunner(say, {"YES": "1"})
    context = PipelineContext(
        pipeline, folder, options.registry, options.runs, options.env, commands
    )
    # A stop by the system is treated as Ctrl-C: the step saves what it has, then the pipeline ends.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with folder.held():
            if options.package is not None and options.env is not None:
                model, run_folder = bring(options.package, options.env, options.runs)
                context.results |= executed_results(model, run_folder, context)
            run = run_pipeline(context, options.run)
    finally:
        signal.signal(signal.SIGTERM, before)
    say(f"{pipeline.spec.name}: {run.outcome}: {run.detail}".rstrip(": "))
    return RUN_FAILED if run.outcome == "rolled back" else 0


def print_status(file: Path, home: Path) -> int:
    """Print the newest state of each step of a pipeline, and its last runs.

    Args:
        file: Pipeline file.
        home: Folder of all pipelines.

    Raises:
        JobError: The file has problems.
    """
    pipeline = load_pipeline(file)
    folder = PipelineFolder(home / pipeline.spec.name)
    rows = [_row(name, folder.newest(name)) for name in pipeline.order]
    for line in aligned([("step", "state", "started", "seconds", "result"), *rows]):
        say(line)
    history = folder.history
    say(f"{len(history)} runs" if history else "no run yet")
    for run in history[-5:]:
        say(f"  {run.started} {run.outcome}: {_first_line(run)}")
    return 0


@dataclass(frozen=True)
class RenderOptions:
    """Options of `temper pipeline render`.

    Attributes:
        file: Pipeline file.
        env: Environment.
        out: File of the definition; None to print a summary only.
        upsert: Create or update the pipeline in the account.
        start: Start an execution, too.
    """

    file: Path
    env: str
    out: Path | None = None
    upsert: bool = False
    start: bool = False


def render_pipeline(options: RenderOptions) -> int:
    """Render a pipeline for SageMaker Pipelines, and create, update or start it there.

    Raises:
        TemperError: The file has problems, or AWS refused.
    """
    from pipeline.render.account import PipelineAccount, render

    pipeline = load_pipeline(options.file)
    account = PipelineAccount(options.env)
    definition = render(account.context(pipeline))
    kinds = [step["Type"] for step in definition.document["Steps"]]
    say(f"{pipeline.spec.name}: {len(kinds)} steps, each valid: {', '.join(kinds)}")
    if options.out is not None:
        write_whole(options.out, json.dumps(definition.document, indent=1) + "\n")
        say(f"definition: {options.out}")
    if options.upsert or options.start:
        confirm(f"Create or update the pipeline {pipeline.spec.name} in {options.env}?")
        say(f"pipeline: {account.upsert(pipeline, definition)}")
    if options.start:
        confirm(f"Start {pipeline.spec.name} in {options.env}? {_question(pipeline, options.env)}")
        reason = f"started by {current_user()} at {now()}"
        say(f"execution: {account.start(pipeline, definition, reason)}")
    return 0


def _row(name: str, result: StepResult | None) -> tuple[str, ...]:
    if result is None:
        return name, "not run", "-", "-", ""
    shown = result.message.splitlines()[0] if result.message else _shown(result)
    return name, result.state, result.started, f"{result.seconds:.0f}", shown


def _shown(result: StepResult) -> str:
    facts = result.facts
    if "open" in facts:
        return "open" if facts["open"] else "closed"
    return str(facts.get("rolled_back") or facts.get("version") or facts.get("folder") or "")


def _first_line(run: PipelineRun) -> str:
    return run.detail.splitlines()[0] if run.detail else ""


def _question(pipeline: LoadedPipeline, env: str) -> str:
    stages = [s.stage for s in pipeline.steps.values() if isinstance(s, RegisterStep)]
    deploys = any(isinstance(step, DeployStep) for step in pipeline.steps.values())
    actions = [f"registers a version as {stage}" for stage in stages]
    actions += ["deploys it, which AWS bills by the hour"] if deploys else []
    done = " and ".join(actions) or "trains"
    return f"Run {pipeline.spec.name} in {env}? If its gates are open, it {done}."
