"""Commands that change an environment of the platform: diff, deploy, destroy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.errors import RunError

if TYPE_CHECKING:
    from stacks.transitions.live import LiveEnvironment

EnvironmentName = Annotated[str, typer.Option("--env", help="A file of environments/.")]
EnvironmentsFolder = Annotated[
    Path,
    typer.Option(
        "--environments", envvar="TEMPER_ENVIRONMENTS", help="The folder of environment files."
    ),
]
OutputFolder = Annotated[
    Path,
    typer.Option("--output", envvar="TEMPER_CDK_OUTPUT", help="The folder of the templates."),
]
CdkOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="CDK_OPTIONS", help="After --: options of `cdk deploy`."),
]
FOLDER, OUTPUT = Path("environments"), Path("cdk.out")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("diff-environment")(_diff)
    app.command("deploy-environment")(_deploy)
    app.command("delete-environment")(_delete)


def _diff(
    env: EnvironmentName = "dev",
    environments: EnvironmentsFolder = FOLDER,
    output: OutputFolder = OUTPUT,
) -> int:
    """Say what a deployment would replace or remove.

    Exit code 4 if CloudFormation would refuse it.
    """
    return _checked(lambda: _show(env, environments, output))


def _deploy(
    options: CdkOptions = None,
    env: EnvironmentName = "dev",
    environments: EnvironmentsFolder = FOLDER,
    output: OutputFolder = OUTPUT,
) -> int:
    """Deploy an environment, and delete its stale stacks.

    A stack is stale if the environment's file no longer has it. What would be deleted or replaced
    is shown with its cost, and confirmed, first.
    """

    def work() -> int:
        from launch.confirm import confirm
        from stacks.transitions.cdk_cli import run_cdk, synthesize
        from stacks.transitions.deployment import deploy

        assembly = synthesize(env, output, environments)
        live = _live(env, environments)
        deploy(live, assembly, run_cdk=run_cdk, confirm=confirm, say=_say, options=options or ())
        return 0

    return _checked(work)


def _delete(env: EnvironmentName = "dev", environments: EnvironmentsFolder = FOLDER) -> int:
    """Delete an environment's stacks, and name what stays.

    It asks first, and lifts termination protection itself.
    """

    def work() -> int:
        from launch.confirm import confirm
        from stacks.transitions.deployment import destroy

        destroy(_live(env, environments), confirm=confirm, say=_say)
        return 0

    return _checked(work)


def _show(env: str, environments: Path, output: Path) -> int:
    from stacks.transitions.cdk_cli import synthesize
    from stacks.transitions.deployment import plan_deployment, show_plan

    assembly = synthesize(env, output, environments)
    live = _live(env, environments)
    refusals = show_plan(live, plan_deployment(live, assembly), _say)
    return RunError.exit_code if refusals else 0


def _live(env: str, environments: Path) -> LiveEnvironment:
    import boto3

    from stacks.settings import read_environment
    from stacks.transitions.live import LiveEnvironment

    environment = read_environment(environments, env)
    return LiveEnvironment(environment, boto3.Session(region_name=environment.region))


def _checked(work: Callable[[], int]) -> int:
    """Run the work of a command, and turn the errors of the platform into those of the CLI.

    Raises:
        RunError: The environment cannot be deployed, or AWS refused a request.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from stacks.errors import DeploymentError, SettingsError

    try:
        return work()
    except (DeploymentError, SettingsError) as error:
        raise RunError(str(error)) from None
    except (BotoCoreError, ClientError) as error:
        raise RunError(f"AWS: {error}") from None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
