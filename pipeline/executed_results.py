"""Results of an execution in AWS in place of those of steps here, and its registration alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.config.suite import load_suite
from evaluation.results import RESULTS, EvaluationResult, read_results
from launch.errors import LaunchError
from launch.submission import now
from pipeline.champion import find_champion
from pipeline.config import EvaluateStep, PrepareStep, RegisterStep, TrainStep
from pipeline.context import PipelineContext
from pipeline.digests import digest_of
from pipeline.executed_model import ExecutedModel, fetch_executed_model, find_executed_model
from pipeline.state import StepResult
from registry.record import ModelRecord
from training.console import say
from training.models.weights_digest import weights_digest
from training.run_folder import RunFolder


def bring(package: str, env: str, runs: Path) -> tuple[ExecutedModel, Path]:
    """Download the run of an execution's model; return the model and the run folder.

    Args:
        package: ARN of the model package.
        env: Environment.
        runs: Folder of run folders.

    Raises:
        LaunchError: No execution has registered it, or AWS refused.
    """
    from launch.aws.platform_parameters import read_platform_parameters
    from launch.aws.session import AwsSession
    from launch.environment import read_environment

    session = AwsSession(read_environment(env))
    session.caller()
    platform = read_platform_parameters(session.environment, session.client("ssm"))
    model = find_executed_model(session.client("sagemaker"), package, session.environment.prefix)
    folder = fetch_executed_model(model, session.client("s3"), platform, runs)
    say(f"{model.run} of the pipeline {model.pipeline} is in {folder}")
    return model, folder


def executed_results(
    model: ExecutedModel, run: Path, context: PipelineContext
) -> dict[str, StepResult]:
    """Return the results of the steps that the execution has run.

    An evaluation is left out, to be repeated here, if another version is in production by now.

    Args:
        model: Model of the execution.
        run: Folder of its run.
        context: The pipeline.

    Raises:
        LaunchError: It is another pipeline, or a step uses a model that the package is not.
    """
    if model.pipeline != context.name:
        raise LaunchError(f"{model.package} is of {model.pipeline}, and this is {context.name}")
    steps = context.pipeline.steps
    trained = {step.model for step in steps.values() if isinstance(step, RegisterStep)}
    used = trained | {step.model for step in steps.values() if isinstance(step, EvaluateStep)}
    if len(used) != 1:
        raise LaunchError(
            f"a package has one model, and the steps use those of {', '.join(sorted(used))}"
        )
    results = {}
    for name, step in steps.items():
        key = digest_of(["executed", model.package, name])
        if isinstance(step, PrepareStep | TrainStep):
            results[name] = StepResult(key, "finished", key, started=now())
            if name in used:
                facts = {"folder": str(run), "run": model.run}
                digest = weights_digest(RunFolder(run).model.resolve())
                results[name] = StepResult(key, "finished", digest, facts, started=now())
        evaluated = _evaluation(context, step, run) if isinstance(step, EvaluateStep) else None
        if evaluated is not None:
            digest, folder, champion = evaluated
            known = {"folder": str(folder), "champion": champion}
            results[name] = StepResult(key, "finished", digest, known, started=now())
    return results


def _evaluation(
    context: PipelineContext, step: EvaluateStep, run: Path
) -> tuple[str, Path, str | None] | None:
    """Return the digest and the folder of an evaluation, and the version that it compares with.

    None if the execution has not run it, or another version is in production by now.

    Args:
        context: The pipeline.
        step: The step.
        run: Folder of the run.
    """
    suite = load_suite(context.pipeline.file(step.suite), against=step.compares).suite
    folder, champion = run / "evaluation" / suite, find_champion(context.store, context.name)
    if not (folder / RESULTS).is_file():
        return None
    result = read_results(folder)
    if step.compares and not _is_against(result, champion):
        return None
    return digest_of(result.to_json()), folder, champion.id if champion else None


def _is_against(result: EvaluationResult, champion: ModelRecord | None) -> bool:
    """Return whether a result compares with the version that is in production now."""
    if result.against is None or champion is None:
        return result.against is None and champion is None
    return result.against.digest in champion.provenance.weights.values()


@dataclass(frozen=True)
class RegisterExecutionOptions:
    """Options of `temper pipeline register`.

    Attributes:
        package: ARN of the model package of an execution.
        env: Environment.
        registry: Folder of the registry.
        runs: Folder of run folders.
    """

    package: str
    env: str
    registry: Path
    runs: Path


def register_execution(options: RegisterExecutionOptions) -> int:
    """Register the model of an execution in AWS as a version, with its evidence.

    Raises:
        TemperError: The package is none of an execution, or the run lacks what a version needs.
    """
    from registry.command import RegisterOptions, register_model
    from registry.remote.command import push_model
    from registry.remote.connect import connect_remote
    from registry.store import LocalRegistry

    model, run = bring(options.package, options.env, options.runs)
    records = LocalRegistry(options.registry).records(model.pipeline)
    known = next((one for one in records if one.provenance.run == model.run), None)
    if known is not None:
        say(f"{known.id} is registered already")
    record = known or register_model(RegisterOptions(run, options.registry, model.pipeline))
    push_model(options.registry, record.id, connect_remote("sagemaker", options.env))
    say(f"the pipeline wants it in {model.stage}: temper promote {record.id} {model.stage}")
    return 0
