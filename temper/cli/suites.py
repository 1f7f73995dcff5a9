"""Command that writes a suite for other evaluation tools: export-suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("export-suite")(_export_suite)


def _export_suite(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE", help="A suite file, or the name of a shipped one.")
    ],
    to: Annotated[str, typer.Option("--to", help="bedrock, inspect, lm-eval or sagemaker.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Export what the format can express.")
    ] = False,
    s3: Annotated[str | None, typer.Option(help="AWS: folder in S3 of data and results.")] = None,
    role: Annotated[str | None, typer.Option(help="AWS: ARN of the role of the job.")] = None,
    model: Annotated[
        str | None, typer.Option(help="AWS: id or ARN of the evaluated model.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="bedrock: folder of an evaluation to judge.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="sagemaker: hub-content ARN of the base model.")
    ] = None,
    evaluator: Annotated[
        str | None, typer.Option(help="sagemaker: ARN of the registered scorer.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="sagemaker: ARN of an MLflow server or app.")
    ] = None,
    accept_eula: Annotated[
        bool, typer.Option("--accept-eula", help="sagemaker: accept the base's license.")
    ] = False,
) -> int:
    """Write a suite of tasks for another evaluation tool.

    What the format cannot express is named, and nothing is written without --partial.
    """
    from evaluation.exports.base import ExportOptions
    from evaluation.exports.command import SuiteExportOptions, run_export

    request = ExportOptions(s3, role, model, base, answers, evaluator, mlflow, accept_eula)
    return run_export(SuiteExportOptions(suite, to, out, partial, request))
