"""Commands about the platform: prices, idle-cost, connect, notify, and those of clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.options import EnvironmentOption
from training.errors import JobError, Problem


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("prices")(_prices)
    app.command("idle-cost")(_idle_cost)
    app.command("connect")(_connect)
    app.command("notify")(_notify)
    app.command("cluster-setup")(_cluster_setup)
    app.command("cluster-software")(_cluster_software)


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


def _connect(
    env: EnvironmentOption = "dev",
    node: Annotated[
        str,
        typer.Option(
            help="login, controller, a group or an instance id; default: login. On EKS the node "
            "that the tunnel goes through, or none."
        ),
    ] = "",
    user: Annotated[str, typer.Option(help="User on the node; default: ubuntu.")] = "",
    key: Annotated[str, typer.Option(help="Your public key; default: ~/.ssh/id_*.pub.")] = "",
    setup_only: Annotated[
        bool, typer.Option("--setup-only", help="Open no shell on the node.")
    ] = False,
) -> int:
    """Open a shell on a cluster node, with your own key.

    On EKS, configure kubectl for the cluster and hold a tunnel to its API server open.

    Session Manager carries the connection, so no port is open. The ssh configuration is written to
    ~/.ssh/temper/.
    """
    from launch.connect import connect
    from launch.environment import read_environment

    return connect(read_environment(env), node=node, user=user, key=key, setup_only=setup_only)


def _notify(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The address of the mails.")] = "",
    env: EnvironmentOption = "dev",
    creator: Annotated[
        list[str] | None,
        typer.Option(help="Whose runs, by login name; default: your own. May be repeated."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="completed, failed or stopped; default: all. May be repeated."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show who gets mail.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Send no more mail.")] = False,
) -> int:
    """Get a mail when a run of yours ends.

    For runs on SageMaker and on the environment's HyperPod cluster.

    Raises:
        InvalidOptionError: No address was given.
    """
    from launch.environment import read_environment
    from launch.errors import InvalidOptionError
    from launch.notify import RunNotices

    if not email and not list_:
        raise InvalidOptionError("EMAIL: name the address that gets the mails, or --list")
    notices = RunNotices(read_environment(env))
    if list_:
        rows = notices.recipients(email)
        lines = [f"{address}  {confirmed}" for address, confirmed in rows]
        typer.echo("\n".join(lines) or f"no address gets mail about runs of {env}")
    else:
        done = notices.remove(email) if remove else notices.add(email, creator or [], state or [])
        typer.echo(done)
    return 0


def _cluster_setup(
    env: EnvironmentOption = "dev",
    print_: Annotated[
        bool, typer.Option("--print", help="Print the manifests and apply nothing.")
    ] = False,
) -> int:
    """Prepare the EKS cluster for jobs, as an administrator.

    Applies namespaces, permissions of engineers, the shared file system's volumes and, with
    autoscaled groups, Karpenter's node pools. Running it again changes nothing.
    """
    from launch.eks.setup import set_up_cluster
    from launch.environment import read_environment

    return set_up_cluster(read_environment(env), print_only=print_)


def _cluster_software(
    env: EnvironmentOption = "dev",
    image: Annotated[str, typer.Option(help="Image to import; default: the platform's.")] = "",
) -> None:
    """Install the software of jobs on a Slurm cluster.

    Needed once per image or version; `temper train --target hyperpod` says when.
    """
    from launch.connect import install_cluster_software
    from launch.environment import read_environment

    install_cluster_software(read_environment(env), image)
