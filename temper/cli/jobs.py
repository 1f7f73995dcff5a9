"""Commands that take a job file: train, check, plan, rehearse, doctor, schema."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.options import (
    RUNS,
    EnvironmentOption,
    JobArgument,
    RunsOption,
    SetOption,
    overrides,
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("train")(_train)
    app.command("check")(_check)
    app.command("plan")(_plan)
    app.command("plan-serving")(_plan_serving)
    app.command("rehearse")(_rehearse)
    app.command("doctor")(_doctor)
    app.command("import")(_import)
    app.command("schema")(_schema)


def _train(
    job: JobArgument,
    target: Annotated[
        str,
        typer.Option(
            help="local, sagemaker, hyperpod, slurm, eks, jumpstart, "
            "sagemaker-serverless, recipes or bedrock-customization."
        ),
    ] = "local",
    env: EnvironmentOption = "dev",
    set_: SetOption = None,
    image: Annotated[str, typer.Option(help="Train in this container image.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: resume nothing.")] = False,
    accept_eula: Annotated[
        bool, typer.Option("--accept-eula", help="Accept the license of a model of AWS.")
    ] = False,
    runs: RunsOption = RUNS,
) -> int:
    """Train a job, or resume its unfinished run.

    The job runs here or on a target; rerun the same command to resume it.
    """
    if target == "local" and not image:
        require("train")
        from training.__main__ import train_job

        train_job(job, overrides(set_), runs=runs, fresh=fresh)
        return 0
    from launch.commands import SubmitOptions, submit_job

    options = SubmitOptions(target, env, image, fresh, accept_eula)
    submit_job(job, overrides(set_), options, runs)
    return 0


def _check(job: JobArgument, set_: SetOption = None) -> int:
    """Check a job file without running it."""
    from training.__main__ import check_job
    from training.config.load import prepares_data, read_document, searches_hyperparameters

    document = read_document(job) if job.is_file() else None
    if prepares_data(document):
        require("prepare")
        from preparation.command import check_preparation

        check_preparation(job, overrides(set_))
        return 0
    if searches_hyperparameters(document):
        from search.check import check_search

        check_search(job, overrides(set_))
        return 0
    check_job(job, overrides(set_))
    return 0


def _plan(
    job: JobArgument,
    set_: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan to this file as JSON.")] = None,
) -> int:
    """Estimate memory, time and cost of a job.

    The exit code is 2 if the job does not fit.
    """
    from training.config.load import prepares_data, read_document, searches_hyperparameters

    document = read_document(job) if job.is_file() else None
    if prepares_data(document):
        require("prepare")
        from preparation.command import plan_preparation

        plan_preparation(job, overrides(set_), out)
        return 0
    from launch.aws.read_object import read_object, read_registry
    from planning.command import print_plan
    from planning.hf_config import read_registry_with, read_s3_with

    read_s3_with(read_object)
    read_registry_with(read_registry)
    if searches_hyperparameters(document):
        from search.plan_command import print_search_plan

        return print_search_plan(job, overrides(set_), out)
    return print_plan(job, overrides(set_), out)


def _plan_serving(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run, folder, Hub id or s3:// address.")
    ],
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an average prompt.")] = 1000,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an average answer.")] = 250,
    context: Annotated[
        int | None, typer.Option(min=2, help="Tokens of the longest request; 4096 if they fit.")
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Requests decoded together.")] = 256,
    requests_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Requests at the busiest time.")
    ] = None,
    max_ttft_ms: Annotated[
        float | None, typer.Option(min=1, help="Limit of the time to the first token.")
    ] = None,
    max_token_ms: Annotated[
        float | None, typer.Option(min=0.1, help="Limit of the time between two tokens.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp8; both if omitted.")] = None,
    import_units: Annotated[
        int | None, typer.Option(min=1, help="Custom Model Units of Bedrock, to compare.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of prices.")] = None,
) -> int:
    """Estimate instances, latency and cost of serving.

    The exit code is 2 if no instance serves the model within the limits.
    """
    from launch.aws.read_object import read_object, read_registry
    from planning.hf_config import read_registry_with, read_s3_with
    from planning.serving.command import print_serving_plan
    from planning.serving.workload import DEFAULT_CONTEXT, ServingWorkload

    read_s3_with(read_object)
    read_registry_with(read_registry)
    workload = ServingWorkload(
        prompt_tokens,
        answer_tokens,
        context or DEFAULT_CONTEXT,
        sequences,
        None if max_ttft_ms is None else max_ttft_ms / 1000,
        None if max_token_ms is None else max_token_ms / 1000,
        requests_per_second,
    )
    return print_serving_plan(
        model,
        workload,
        context_given=context is not None,
        dtype=dtype,
        region=region,
        import_units=import_units,
    )


def _rehearse(
    context: typer.Context,
    job: JobArgument,
    set_: SetOption = None,
    env: EnvironmentOption = "dev",
    image: Annotated[str, typer.Option(help="Run this image instead of this checkout.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs and folders.")] = False,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Also deploy the model to every target.")
    ] = False,
) -> int:
    """Run a job in an emulated SageMaker account.

    Everything happens on this machine; no AWS account is needed.
    """
    from emulator.command import rehearse_job

    main = partial(_run_command, context) if deploy else None
    rehearse_job(job, overrides(set_), env=env, image=image, keep=keep, deploy=main)
    return 0


def _run_command(context: typer.Context, arguments: list[str]) -> int:
    """Run another command of this command line, and return its exit code.

    Args:
        context: Context of a command.
        arguments: Arguments of the command line.
    """
    try:
        context.find_root().command.main(args=arguments, prog_name="temper")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _doctor(
    env: Annotated[str, typer.Option(help="Also check the account of this environment.")] = "",
    job: Annotated[Path | None, typer.Option(help="The job that is to run.")] = None,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> int:
    """Check this machine and the account; name the fixes."""
    from launch.doctor.command import run_doctor

    return run_doctor(env=env, job=job, overrides=overrides(set_), runs=runs)


def _import(
    settings: Annotated[
        Path, typer.Argument(metavar="FILE", help="Hugging Face hyperparameters, as JSON.")
    ],
    model: Annotated[str, typer.Option(help="The base model.")] = "",
    data: Annotated[str, typer.Option(help="The training data.")] = "",
    validation: Annotated[
        str, typer.Option(help="Held-out rows: a share such as 5%, or a file.")
    ] = "",
    name: Annotated[str, typer.Option(help="The job's name; that of the file if left out.")] = "",
    devices: Annotated[int, typer.Option(min=1, help="Accelerators of the original run.")] = 1,
) -> int:
    """Print the job file of Hugging Face hyperparameters.

    Reads use_lora, lora_config, sft_config, model_init_config, and arguments of TrainingArguments.
    Comments at the top of the job name what is not carried over.
    """
    from training.config.hyperparameters.command import print_imported_job

    print_imported_job(
        settings, name=name, model=model, data=data, validation=validation, devices=devices
    )
    return 0


def _schema() -> int:
    """Write the schemas by which editors check files.

    The files are jobs/schema.json and pipelines/schema.json.
    """
    from pipeline.schema import write_pipeline_schema
    from preparation.config.job import PreparationJob
    from search.config import SearchSettings
    from training.config.schema import write_schema

    write_schema({"search": SearchSettings}, (PreparationJob,))
    write_pipeline_schema()
    return 0
