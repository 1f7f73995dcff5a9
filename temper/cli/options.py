"""Arguments and options that several commands take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
_PAIR = re.compile(r"[\w.-]+=")

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


def run_folder(name: str) -> Path:
    """Return the folder of the run that a user means by a path or a name.

    Raises:
        NoSuchRunError: There is no such folder, and no run matches.
    """
    if Path(name).exists():
        return Path(name)
    from launch.resolve_run import resolve_run

    return RUNS / resolve_run(RUNS, name).run


def run_or_model(name: str) -> str:
    """Return the folder of the run that a model's name means; the name itself if it means none.

    Args:
        name: A path, NAME or NAME/ID of a run, the name of a cloud job, or a Hub id.
    """
    if Path(name).exists() or not RUNS.is_dir():
        return name
    from launch.resolve_run import find_run_folder

    folder = find_run_folder(RUNS, name)
    if folder is None:
        return name
    typer.echo(f"{name} is the run {folder}", err=True)
    return str(folder)


def overrides(pairs: list[str] | None) -> str:
    """Return the values of `--set` as `load_job` takes them."""
    return " ".join(_shell_word(pair) for pair in pairs or ())


def _shell_word(argument: str) -> str:
    """Return an argument of `--set`, quoted if it is one pair whose value contains spaces.

    The shell has removed the user's quotes: `--set name='my run'` arrives as `name=my run`. Make
    passes all of `SET="a=1 b=2"` as one argument; each of its words is then a pair.
    """
    try:
        words = shlex.split(argument)
    except ValueError:
        return argument  # an open quote, which `load_job` reports
    return argument if all(_PAIR.match(word) for word in words) else shlex.quote(argument)
