"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")

JobArgument = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="NAME, NAME/ID, the name of a cloud job, or a path.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override keys of the job file."),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="The folder of run folders.")]
EnvironmentOption = Annotated[str, typer.Option("--env", help="A file of environments/.")]


def overrides(pairs: list[str] | None) -> str:
    """Return the values of `--set` as `load_job` takes them."""
    return " ".join(pairs or ())
