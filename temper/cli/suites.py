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
    to: Annotated[str, typer.Option("--to", help="inspect, lm-eval, bedrock or sagemaker.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Export what the format can express.")
    ] = False,
) -> int:
    """Write a suite of tasks for another evaluation tool.

    What the format cannot express is named, and nothing is written without --partial.
    """
    from evaluation.exports.base import ExportOptions
    from evaluation.exports.command import SuiteExportOptions, run_export

    return run_export(SuiteExportOptions(suite, to, out, partial, ExportOptions()))
