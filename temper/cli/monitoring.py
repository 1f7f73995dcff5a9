"""Command that compares what a deployed model is asked with what it was trained on: watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.registry import DEFAULT_REGISTRY, RegistryOption


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("watch")(_watch)


def _watch(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="A file, folder, s3://…, or a deployment.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="NAME@VERSION, a run, or a folder; that of the deployment if omitted."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Training rows, or reference.npz; the model's own if omitted."),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", help="A file of environments/, of a deployment.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Model or adapter, if the log has several.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day or time that is read, in UTC.")
    ] = None,
    window: Annotated[
        str, typer.Option(help="Size of a window: 6h, 1d, 1w, or a number of calls.")
    ] = "1d",
    alarm: Annotated[
        str, typer.Option(metavar="K/N", help="Flagged windows of the last N for an alarm.")
    ] = "2/3",
    measured: Annotated[int, typer.Option(help="Most calls of a window that are measured.")] = 200,
    training_rows: Annotated[
        int, typer.Option(help="Prompts of the training set that are measured.")
    ] = 1000,
    judge: Annotated[
        Path | None, typer.Option(help="YAML with a rubric and a judge, which rates a sample.")
    ] = None,
    judged: Annotated[int, typer.Option(help="Answers of a window that are judged.")] = 20,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Registered rating: SUITE.TASK.METRIC.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="Cost limit of the judge in USD.")] = None,
    logged_share: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Share of calls that the log has, such as 1%."),
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help="Golden prompts, asked of the deployment or of --url.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Server that is asked golden prompts.")] = None,
    usd_per_hour: Annotated[
        float | None, typer.Option(help="Price of an hour; that of the deployment if omitted.")
    ] = None,
    usd_per_1000: Annotated[
        str | None,
        typer.Option(metavar="IN,OUT", help="Price of 1,000 tokens of prompts and answers."),
    ] = None,
    most_cut: Annotated[
        float, typer.Option(help="Share of cut answers from which a window is flagged.")
    ] = 0.2,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
    metrics: Annotated[
        bool, typer.Option(help="Print CloudWatch metrics of the newest window.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Namespace of the metrics.")] = "Temper/Watch",
    fail: Annotated[bool, typer.Option(help="Exit with 4 if an alarm is raised.")] = False,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Compare a deployed model's calls with its training set.

    Drift, quality, golden prompts, latency and cost by window, with alarms and hard cases.
    """
    require("train")
    from monitoring.command import run_watch
    from monitoring.options import WatchOptions

    return run_watch(
        WatchOptions(
            log=log,
            model=model,
            reference=reference,
            registry=registry,
            env=env,
            adapter=adapter,
            since=since,
            window=window,
            alarm=alarm,
            measured=measured,
            training_rows=training_rows,
            judge=judge,
            judged=judged,
            baseline=baseline,
            max_cost=max_cost,
            logged_share=logged_share,
            golden=golden,
            url=url,
            usd_per_hour=usd_per_hour,
            usd_per_1000=usd_per_1000,
            most_cut=most_cut,
            out=out,
            metrics=metrics,
            namespace=namespace,
            fail=fail,
        )
    )
