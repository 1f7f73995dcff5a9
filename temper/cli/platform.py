"""Commands about prices and the platform: prices, idle-cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.errors import JobError, Problem


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("prices")(_prices)
    app.command("idle-cost")(_idle_cost)


def _prices(
    region: Annotated[
        str, typer.Option(help="Where jobs would run; the region of the dated table if omitted.")
    ] = "",
) -> int:
    """Download current instance prices from AWS.

    AWS credentials are needed.
    """
    from launch.prices import refresh_prices

    return refresh_prices(region)


def _idle_cost(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder that `make synth` wrote.")
    ] = Path("cdk.out"),
) -> int:
    """Print the monthly cost of an idle environment.

    Raises:
        JobError: The folder has no templates.
    """
    if not (folder / "manifest.json").is_file():
        problem = Problem(
            "FOLDER",
            "has no synthesized templates (manifest.json)",
            str(folder),
            "Write them with `make synth ENV=dev`, or use `make idle-cost ENV=dev`",
        )
        raise JobError("idle-cost", [problem])
    from stacks.baseline_cost import print_idle_costs

    print_idle_costs(folder)
    return 0
