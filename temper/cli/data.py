"""Commands that prepare data: prepare."""

from __future__ import annotations

from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.options import JobArgument, SetOption, overrides


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("prepare")(_prepare)


def _prepare(
    job: JobArgument,
    set_: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: resume nothing.")] = False,
) -> int:
    """Prepare clean training data from raw files.

    The same command resumes an interrupted preparation.
    """
    require("prepare")
    from preparation.command import prepare

    return prepare(job, overrides(set_), fresh=fresh)
