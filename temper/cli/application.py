"""The Typer application and its entry point."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from temper import __version__
from temper.cli import (
    advise,
    data,
    deployments,
    environments,
    images,
    jobs,
    models,
    monitoring,
    pipeline,
    platform,
    quality,
    registry,
    review,
    runs,
    search,
    serving,
    suites,
)
from temper.cli.group import CommandGroup

# Plain help texts: with rich markup, `temper --help` would load rich and all it imports.
app = typer.Typer(
    name="temper",
    cls=CommandGroup,
    help="Fine-tune and align language models, here or in your own AWS account.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"temper {__version__}")
        raise typer.Exit


@app.callback()
def _application(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Fine-tune and align language models, here or in your own AWS account."""


for _group in (
    *(jobs, advise, data, search, pipeline, runs, models, serving, monitoring),
    *(quality, review, suites),
    *(registry, deployments, platform, images, environments),
):
    _group.register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    The codes are 0 success, 2 the command line or the job, 3 the data, 4 the run or its target,
    5 a safety gate, 75 stopped after saving a checkpoint, 130 interrupted.
    """
    try:
        app(args=sys.argv[1:] if arguments is None else arguments, prog_name="temper")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
