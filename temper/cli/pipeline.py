"""Commands of pipelines: pipeline run, pipeline status, pipeline render."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.group import CommandGroup
from temper.cli.options import RUNS, EnvironmentOption, RunsOption, SetOption, overrides
from temper.cli.registry import DEFAULT_REGISTRY, RegistryOption

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The pipeline file, such as pipelines/docs.yaml.")
]
HomeOption = Annotated[Path, typer.Option("--home", help="The folder of all pipelines.")]
HOME = Path("pipeline-runs")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    group = typer.Typer(cls=CommandGroup, no_args_is_help=True, rich_markup_mode=None, help=_HELP)
    group.command("plan")(_plan)
    group.command("run")(_run)
    group.command("status")(_status)
    group.command("render")(_render)
    group.command("register")(_register_execution)
    group.command("rehearse")(_rehearse)
    app.add_typer(group, name="pipeline")


_HELP = "Run a pipeline: train, decide, register, deploy."


def _run(
    file: FileArgument,
    env: Annotated[
        str | None, typer.Option(help="Also register and deploy in this environment.")
    ] = None,
    set_: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run unchanged steps too.")] = False,
    ignore_cooldown: Annotated[
        bool, typer.Option("--ignore-cooldown", help="Train although the last was just now.")
    ] = False,
    package: Annotated[
        str | None,
        typer.Option(metavar="ARN", help="Model package of an execution, to train nothing."),
    ] = None,
    runs: RunsOption = RUNS,
    registry: RegistryOption = DEFAULT_REGISTRY,
    home: HomeOption = HOME,
) -> int:
    """Run the steps that have something new to do.

    Unchanged data means no run. The same command resumes a pipeline at the step that failed.
    """
    require("train")
    from pipeline.command import PipelineOptions, run_here
    from pipeline.run import RunOptions

    options = RunOptions(fresh=fresh, ignore_cooldown=ignore_cooldown)
    return run_here(
        PipelineOptions(file, registry, runs, home, env, overrides(set_), options, package)
    )


def _plan(
    file: FileArgument,
    cloud: Annotated[
        bool, typer.Option("--cloud", help="Plan for AWS: with the keys of cloud.")
    ] = False,
    set_: SetOption = None,
) -> int:
    """Check every job of a pipeline, and estimate time and cost.

    The exit code is 2 if a job has problems, or a run costs more than a month may.
    """
    require("train")
    require("prepare")
    from pipeline.load import load_pipeline
    from pipeline.plan import plan_lines

    for line in plan_lines(load_pipeline(file, overrides(set_)), cloud=cloud):
        typer.echo(line)
    return 0


def _status(file: FileArgument, home: HomeOption = HOME) -> int:
    """Print the state of each step, and the last runs."""
    from pipeline.command import print_status

    return print_status(file, home)


def _render(
    file: FileArgument,
    env: EnvironmentOption = "dev",
    out: Annotated[Path | None, typer.Option(help="Write the definition to this file.")] = None,
    upsert: Annotated[
        bool, typer.Option("--upsert", help="Create or update the pipeline in AWS.")
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="Start it in AWS, too.")] = False,
) -> int:
    """Render a pipeline for SageMaker Pipelines.

    Every step is checked against the request of its operation.
    """
    require("launch")
    require("prepare")
    from pipeline.command import RenderOptions, render_pipeline

    return render_pipeline(RenderOptions(file, env, out, upsert, start))


def _register_execution(
    package: Annotated[
        str, typer.Argument(metavar="PACKAGE", help="The ARN of the model package.")
    ],
    env: EnvironmentOption = "dev",
    runs: RunsOption = RUNS,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Register the model of an execution in AWS.

    Its run and the results of its evaluations are fetched and checked, as those of any run, and the
    version is pushed to the registry of the environment. Nothing is trained.
    """
    require("train")
    require("launch")
    from pipeline.executed_results import RegisterExecutionOptions, register_execution

    return register_execution(RegisterExecutionOptions(package, env, registry, runs))


def _rehearse(
    file: FileArgument,
    better: Annotated[
        str,
        typer.Option(metavar="KEY=VALUE", help="Override with which the model is better."),
    ] = "steps.train.set={train.max_steps: 80}",
    worse: Annotated[
        str,
        typer.Option(metavar="KEY=VALUE", help="Override with which the model is worse."),
    ] = "steps.train.set={train.max_steps: 20}",
    sagemaker: Annotated[
        bool, typer.Option("--sagemaker", help="Execute it in SageMaker Pipelines instead.")
    ] = False,
    env: EnvironmentOption = "dev",
) -> int:
    """Run a pipeline in an emulated account until a rollback.

    The platform is deployed first. The first run promotes, the second finds nothing new, the third
    is worse and not promoted, and the deployment of the fourth is rolled back. With --sagemaker,
    the rendered pipeline is executed twice, and trains the same model as a run here.
    """
    require("train")
    require("prepare")
    from emulator.execution_scenario import rehearse_execution
    from emulator.pipeline_scenario import rehearse_pipeline
    from pipeline.load import load_pipeline

    # Problems are reported before the platform is deployed, which takes a while.
    pipeline, *_ = [load_pipeline(file, overrides(pairs)) for pairs in ([], [better], [worse])]
    if sagemaker:
        rehearse_execution(file, pipeline.spec.name, env)
    else:
        rehearse_pipeline(file, better, worse, env)
    return 0
