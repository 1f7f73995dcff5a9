"""Run of a pipeline on this machine: each step once per content of its inputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from launch.resources import stages_of
from launch.submission import now
from pipeline.config import AnyStep, DeployStep, GateStep, PipelineStep, RegisterStep, TrainStep
from pipeline.context import PipelineContext, PipelineStepRunner
from pipeline.limits import LimitReached, reached_limit
from pipeline.state import PipelineRun, StepResult
from pipeline.steps.deploy import DeployRunner
from pipeline.steps.evaluate import EvaluateRunner
from pipeline.steps.gate import GateRunner
from pipeline.steps.prepare import PrepareRunner
from pipeline.steps.register import RegisterRunner
from pipeline.steps.train import TrainRunner
from training.errors import Interrupted, TemperError

RUNNERS: Mapping[str, PipelineStepRunner[Any]] = {
    "prepare": PrepareRunner(),
    "train": TrainRunner(),
    "evaluate": EvaluateRunner(),
    "gate": GateRunner(),
    "register": RegisterRunner(),
    "deploy": DeployRunner(),
}
"""Kind of a step -> its runner."""


@dataclass
class _Progress:
    executed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    trained: bool = False
    cost_usd: float = 0.0
    limit: LimitReached | None = None


@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

    Attributes:
        fresh: Run every step, also one whose inputs are unchanged.
        ignore_cooldown: Train although the last training was a short while ago.
    """

    fresh: bool = False
    ignore_cooldown: bool = False


def run_pipeline(context: PipelineContext, options: RunOptions) -> PipelineRun:
    """Run the steps of a pipeline that have something new to do, and record the run.

    Args:
        context: The pipeline.
        options: Options.

    Raises:
        Interrupted: A step was stopped; the same command resumes at it.
        TemperError: A step failed.
    """
    started, began, progress = now(), time.monotonic(), _Progress()

    def record(outcome: str, detail: str) -> PipelineRun:
        run = PipelineRun(
            started,
            outcome,
            detail,
            tuple(progress.executed),
            progress.trained,
            round(progress.cost_usd, 4),
            round(time.monotonic() - began, 1),
        )
        context.folder.record(run)
        return run

    try:
        for name in context.pipeline.order:
            _run_step(context, name, options, progress)
            if progress.limit is not None:
                return record(progress.limit.outcome, progress.limit.detail)
    except Interrupted as error:
        record("stopped", f"{name}: {error}")
        raise
    except TemperError as error:
        record("failed", f"{name}: {error}")
        raise
    return record(*_outcome(context, progress))


def _run_step(
    context: PipelineContext, name: str, options: RunOptions, progress: _Progress
) -> None:
    """Run a step, or take its earlier result.

    Raises:
        TemperError: It failed.
    """
    step = context.pipeline.steps[name]
    if name in context.results:
        context.say(f"{name}: of the execution in AWS")
        return
    reason = _why_skipped(context, step, progress)
    if reason is not None:
        progress.skipped[name] = reason
        context.say(f"{name}: not run: {reason}")
        return
    runner = RUNNERS[step.kind]
    key = runner.key(context, step)
    earlier = context.folder.read(name, key)
    finished = earlier is not None and earlier.state == "finished" and not options.fresh
    if earlier is not None and finished and runner.is_current(context, earlier):
        context.results[name] = earlier
        context.say(f"{name}: unchanged since {earlier.started}")
        return
    if isinstance(step, TrainStep):
        _count_training(context, step, earlier, options, progress)
        if progress.limit is not None:
            context.say(f"{name}: {progress.limit.outcome}: {progress.limit.detail}")
            return
    unfinished = earlier is not None and earlier.state != "finished"
    context.say(f"{name}: {'resumes' if unfinished else 'starts'}")
    _execute(context, name, step, key, progress)


def _execute(
    context: PipelineContext, name: str, step: AnyStep, key: str, progress: _Progress
) -> None:
    began, result = time.monotonic(), StepResult(key, "running", started=now())
    context.place = context.folder.step(name, key)
    context.folder.write(name, result)
    try:
        output = RUNNERS[step.kind].run(context, step)
    except TemperError as error:
        seconds = round(time.monotonic() - began, 1)
        context.folder.write(
            name, replace(result, state="failed", message=str(error), seconds=seconds)
        )
        raise
    seconds = round(time.monotonic() - began, 1)
    result = replace(
        result, state="finished", digest=output.digest, facts=output.facts, seconds=seconds
    )
    context.folder.write(name, result)
    context.results[name] = result
    if not output.facts.get("unchanged"):
        progress.executed.append(name)
    context.say(f"{name}: {output.line} ({seconds:.0f} s)")


def _why_skipped(context: PipelineContext, step: PipelineStep, progress: _Progress) -> str | None:
    """Return why a step is not run: a closed gate, a step before that was not, no environment."""
    closed = [g for g in step.gate if g in context.results and not context.facts(g)["open"]]
    if closed:
        return f"the gate {', '.join(closed)} is closed"
    missing = [other for other, _ in step.uses().values() if other in progress.skipped]
    if missing:
        return f"{missing[0]} was not run"
    if isinstance(step, DeployStep) and context.env is None:
        return "no environment is named (--env)"
    return None


def _count_training(
    context: PipelineContext,
    step: TrainStep,
    earlier: StepResult | None,
    options: RunOptions,
    progress: _Progress,
) -> None:
    """Note a training and its predicted cost, or the limit that forbids it."""
    usd = _predicted_usd(context, step)
    if not progress.trained:
        limits = context.pipeline.spec.limits
        if options.ignore_cooldown or earlier is not None:
            # An interrupted training is completed: the cool-down was checked when it started.
            limits = limits.model_copy(update={"cooldown": 0.0})
        spent = progress.cost_usd + usd
        progress.limit = reached_limit(limits, context.folder.history, spent, now())
    if progress.limit is None:
        progress.trained = True
        progress.cost_usd += usd


def _predicted_usd(context: PipelineContext, step: TrainStep) -> float:
    """Return the highest cost of a training by its plan; 0 on this machine."""
    from planning import make_plan

    job = TrainRunner().job(context, step)
    instances = [stage.resources.instance for stage in stages_of(job)]
    return make_plan(job).cost_usd.high if any(instances) else 0.0


def _outcome(context: PipelineContext, progress: _Progress) -> tuple[str, str]:
    """Return the outcome of a run that reached its end, and its detail."""
    if not progress.executed:
        return "unchanged", "data, jobs and suites are those of an earlier run: no step was run"
    steps = context.pipeline.steps
    restored = [
        str(context.facts(name)["rolled_back"])
        for name in steps
        if name in context.results and "rolled_back" in context.facts(name)
    ]
    if restored:
        return "rolled back", "; ".join(restored)
    closed = [
        f"{name}: {'; '.join(context.facts(name)['unmet'])}"
        for name, step in steps.items()
        if isinstance(step, GateStep)
        and name in context.results
        and not context.facts(name)["open"]
    ]
    if closed:
        return "not promoted", " / ".join(closed)
    versions = [
        f"{context.facts(name)['version']} is {context.facts(name)['stage']}"
        for name, step in steps.items()
        if isinstance(step, RegisterStep) and name in context.results
    ]
    return ("promoted", ", ".join(versions)) if versions else ("finished", "")
