"""Commands of deployments: deploy-model, swap, undeploy, deployments, record-golden."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from temper.cli.options import EnvironmentOption


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("deploy-model")(_deploy_model)
    app.command("swap")(_swap)
    app.command("undeploy")(_undeploy)
    app.command("deployments")(_deployments)
    app.command("record-golden")(_record_golden)


ModelArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME@VERSION", help="An approved version; of --file if omitted."),
]
NameOption = Annotated[
    str | None, typer.Option(help="Name of the deployment; that of the model if omitted.")
]
FileOption = Annotated[
    Path | None, typer.Option(help="Specification of the deployment; options override it.")
]
InstanceOption = Annotated[str | None, typer.Option(help="Instance type, such as ml.g5.xlarge.")]
CopiesOption = Annotated[int | None, typer.Option(help="Instances, or copies of a component.")]
FormOption = Annotated[str | None, typer.Option(help="Form of the version, such as gguf.")]
GoldenOption = Annotated[
    Path | None, typer.Option(help="Golden prompts, compared before and after a shift.")
]
RolloutOption = Annotated[
    str | None, typer.Option(help="Shift of the traffic: canary, linear or all-at-once.")
]
SettingOption = Annotated[
    list[str] | None,
    typer.Option("--setting", metavar="KEY=VALUE", help="Setting of the server; repeatable."),
]
ChatOption = Annotated[
    bool | None, typer.Option("--chat/--no-chat", help="Conversations, or texts only.")
]


def _deploy_model(
    model: ModelArgument = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="endpoint, component, async, batch, hyperpod, bedrock-import, "
            "bedrock-on-demand or bedrock-throughput."
        ),
    ] = None,
    env: EnvironmentOption = "dev",
    name: NameOption = None,
    file: FileOption = None,
    instance: InstanceOption = None,
    copies: CopiesOption = None,
    min: Annotated[int | None, typer.Option(help="Fewest copies under little load.")] = None,
    max: Annotated[int | None, typer.Option(help="Most copies under load.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="End in UTC, such as 2026-12-31T18:00Z.")
    ] = None,
    idle: Annotated[
        int | None, typer.Option(metavar="HOURS", help="End after hours without a call.")
    ] = None,
    forever: Annotated[
        str | None, typer.Option(metavar="REASON", help="No end; the reason is recorded.")
    ] = None,
    form: FormOption = None,
    adapter_of: Annotated[
        str | None, typer.Option(metavar="NAME", help="Deployed base of the adapter.")
    ] = None,
    capture: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Share of calls to capture, such as 10%.")
    ] = None,
    rollout: RolloutOption = None,
    golden: GoldenOption = None,
    input: Annotated[
        str | None, typer.Option(metavar="S3", help="With batch: JSON Lines of requests.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="S3", help="With batch: folder of the answers.")
    ] = None,
    setting: SettingOption = None,
    chat: ChatOption = None,
) -> int:
    """Deploy a registered, approved version to AWS.

    Price and end are shown and confirmed first. The same command continues after an interruption.
    """
    from deployment.command import DeployOptions, deploy_model

    values = {
        "model": model,
        "to": to,
        "name": name,
        "instance": instance,
        "copies": copies,
        "form": form,
        "adapter_of": adapter_of,
        "capture": capture,
        "chat": chat,
        "scaling": {"min": min, "max": max},
        "end": {"until": until, "idle_hours": idle, "forever": forever},
        "rollout": {"kind": rollout},
        "golden": {"file": golden},
        "batch": {"input": input, "output": output},
        "settings": _settings(setting),
    }
    return deploy_model(DeployOptions(env, file, values))


def _swap(
    model: ModelArgument = None,
    env: EnvironmentOption = "dev",
    name: NameOption = None,
    file: FileOption = None,
    instance: InstanceOption = None,
    copies: CopiesOption = None,
    form: FormOption = None,
    rollout: RolloutOption = None,
    golden: GoldenOption = None,
    setting: SettingOption = None,
    chat: ChatOption = None,
) -> int:
    """Serve another version behind the name of a deployment.

    Alarms on errors and latency restore the version before, as do golden prompts that differ.
    """
    from deployment.command import DeployOptions, swap_model
    from deployment.spec import default_name

    values = {
        "model": model,
        "name": name or (default_name(model) if model else None),
        "instance": instance,
        "copies": copies,
        "form": form,
        "chat": chat,
        "rollout": {"kind": rollout},
        "golden": {"file": golden},
        "settings": _settings(setting),
    }
    return swap_model(DeployOptions(env, file, values))


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    """Return the values of `--setting`.

    Raises:
        InvalidOptionError: One has no equals sign.
    """
    from launch.errors import InvalidOptionError

    for pair in pairs or ():
        if "=" not in pair:
            raise InvalidOptionError(f"--setting {pair}: write KEY=VALUE, such as MAX_CONTEXT=8192")
    return dict(pair.split("=", 1) for pair in pairs or ())


def _undeploy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the deployment.")],
    env: EnvironmentOption = "dev",
) -> int:
    """Remove a deployment with all that was made for it."""
    from deployment.command import undeploy

    return undeploy(env, name)


def _deployments(env: EnvironmentOption = "dev") -> int:
    """List deployments with state, price and end."""
    from deployment.command import list_deployments

    return list_deployments(env)


def _record_golden(
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="JSON Lines with prompt or messages.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File of the golden prompts.")],
    url: Annotated[str, typer.Option(help="Server of the version, such as temper serve.")] = (
        "http://127.0.0.1:8000/v1"
    ),
    model: Annotated[str | None, typer.Option(help="Name of the model in requests.")] = None,
) -> int:
    """Record the answers of a server to golden prompts."""
    from deployment.golden import record_golden

    return record_golden(prompts, out, url, model)
