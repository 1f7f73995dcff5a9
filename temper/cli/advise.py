"""Command that advises how to adapt a model to data: advise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.options import SetOption, overrides


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("advise")(_advise)


def _advise(
    job: Annotated[Path | None, typer.Argument(metavar="JOB", help="The job file.")] = None,
    model: Annotated[str, typer.Option(help="Folder or Hub id; the job's if omitted.")] = "",
    data: Annotated[str, typer.Option(help="File or folder of rows; the job's if omitted.")] = "",
    set_: SetOption = None,
    instance: Annotated[
        str | None, typer.Option(help="Instance type to train on; the cheapest if omitted.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="Most that training may cost.")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="Longest time of the training.")
    ] = None,
    max_ttft_ms: Annotated[
        float | None, typer.Option(min=1, help="Limit of the time to the first token.")
    ] = None,
    changing_facts: Annotated[
        bool, typer.Option("--changing-facts", help="Answers depend on facts that change.")
    ] = False,
    keep_general: Annotated[
        bool, typer.Option("--keep-general", help="Other abilities of the model must stay.")
    ] = False,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks that share the model.")] = 1,
    measure_seconds: Annotated[
        float, typer.Option(min=0, help="Time to run the model on a sample; 0 to not run it.")
    ] = 20,
    out: Annotated[Path | None, typer.Option(help="Write the advised job to this file.")] = None,
    trials: Annotated[
        Path | None, typer.Option(help="Train small trials of each approach in this folder.")
    ] = None,
    trial_steps: Annotated[
        int, typer.Option(min=1, help="Optimizer steps of each training of the trials.")
    ] = 30,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Advise how to adapt a model: by prompts or training.

    The model is run on a sample of the rows, and each approach is priced. Reasons come from a table
    of rules with sources. Name a job file, or --model and --data.
    """
    require("train")
    from advice.command import print_advice
    from advice.question import Asked, Requirements
    from launch.aws.read_object import read_object, read_registry
    from planning.hf_config import read_registry_with, read_s3_with

    read_s3_with(read_object)
    read_registry_with(read_registry)
    limit_s = None if max_ttft_ms is None else max_ttft_ms / 1000
    needs = Requirements(instance, budget, max_hours, limit_s, changing_facts, keep_general, tasks)
    asked = Asked(job, overrides(set_), model, data, needs)
    print_advice(
        asked,
        seconds=measure_seconds,
        as_json=json_,
        out=out,
        trials=trials,
        trial_steps=trial_steps,
    )
    return 0
