"""Commands about prices and the platform: prices, idle-cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
        Path, typer.Argument(help="The folder of templates that `make synth` wrote.")
    ] = Path("cdk.out"),
) -> int:
    """Print the monthly cost of an idle environment."""
    from stacks.baseline_cost import print_idle_costs

    print_idle_costs(folder)
    return 0
