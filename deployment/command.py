"""Implementation of `temper deploy-model`, `swap`, `undeploy` and `deployments`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from deployment.account import DeploymentAccount, connect_account
from deployment.errors import DeployModelError
from deployment.golden import GOLDEN_FILE, GoldenCheck, read_golden
from deployment.model import find_model
from deployment.quote import total_usd
from deployment.record import Deployment
from deployment.sagemaker.requests import FILES
from deployment.spec import TARGET_KINDS, DeploymentSpec, read_spec
from deployment.targets.base import (
    AnsweringTarget,
    DeploymentRequest,
    DeploymentTarget,
    RememberingTarget,
    connect_target,
)
from launch.aws.s3 import S3Store, S3Uri
from launch.confirm import confirm
from launch.errors import LaunchError
from registry.table import aligned
from training.console import say
from training.errors import JobError, Problem

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class DeployOptions:
    """Options of `temper deploy-model` and `temper swap`.

    Attributes:
        env: Name of the environment.
        file: File of the specification.
        values: Options of the command line, by key of the specification.
    """

    env: str
    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def deploy_model(options: DeployOptions) -> int:
    """Deploy a registered version after showing its price and asking.

    Raises:
        JobError: The specification has problems, or the deployment would fail.
        DeployModelError: It failed, or the name is in use.
        NotConfirmed: The user declined.
    """
    spec = read_spec(options.file, options.values)
    account = connect_account(options.env)
    target = connect_target(spec.to, account)
    request = _request(account, spec, target)
    existing = _find_existing(account, spec)
    if existing is not None and existing.model not in ("", request.model.id):
        raise DeployModelError(
            f"{spec.name} serves {existing.model}. To serve {request.model.id} behind the same "
            f"name: temper swap {request.model.id} --name {spec.name}; or choose another --name"
        )
    golden = _golden(spec, target)
    problems = [*target.problems(request), *_golden_problems(spec, target)]
    if problems:
        raise JobError(f"{request.model.id} is not deployed", problems)
    _show(request, target)
    if existing is None or existing.state == "failed":
        confirm(f"Deploy {request.model.id} as {spec.name} ({spec.to}) in {options.env}?")
    else:
        say(f"{spec.name} is {existing.state}; continuing")
    if golden is not None:
        request = replace(request, verify=lambda: golden.after(request.model.id))
    _report(target.deploy(request), account)
    _keep_golden(account, spec)
    return 0


def swap_model(options: DeployOptions) -> int:
    """Serve another version behind the name of a deployment.

    Raises:
        JobError: The specification has problems, or the deployment would fail.
        RolledBackError: The version before serves again.
        DeployModelError: There is no such deployment, or it failed.
        NotConfirmed: The user declined.
    """
    account = connect_account(options.env)
    name = options.values.get("name")
    existing = _existing(account, str(name)) if name else None
    known = _known_values(account, existing)
    spec = read_spec(options.file, options.values, known)
    existing = existing or _existing(account, spec.name)
    spec = spec.model_copy(update={"to": existing.to})
    target = connect_target(spec.to, account)
    request = _request(account, spec, target)
    golden = _golden(spec, target)
    if problems := [*target.problems(request), *_golden_problems(spec, target)]:
        raise JobError(f"{request.model.id} is not deployed", problems)
    say(f"{spec.name} ({existing.to}) serves {existing.model or 'a version without tags'}")
    if kept := _kept_words(spec, known):
        say(f"  as before: {kept}")
    _show(request, target)
    if existing.state != "deploying":
        confirm(f"Serve {request.model.id} as {spec.name} in {options.env}?")
    if golden is not None:
        golden.before(existing.model)
        request = replace(request, verify=lambda: golden.after(request.model.id))
    _report(target.swap(request), account)
    _keep_golden(account, spec)
    return 0


def undeploy(env: str, name: str) -> int:
    """Remove a deployment after asking.

    Args:
        env: Name of the environment.
        name: Name of the deployment.

    Raises:
        DeployModelError: There is no such deployment, or something remains.
        NotConfirmed: The user declined.
    """
    account = connect_account(env)
    targets = [connect_target(kind, account) for kind in TARGET_KINDS]
    asked = [(target, _ask(target.kind, partial(target.find, name))) for target in targets]
    found = [(target, one) for target, one in asked if one is not None]
    if not found:
        for target in targets:
            # An interrupted removal may have left these.
            _ask(target.kind, partial(target.undeploy, name))
        say(f"{name} is not deployed in {env}; nothing of it is left")
        return 0
    for target, deployment in found:
        confirm(
            f"Remove {name} ({deployment.to}, {deployment.model or 'no version'}, "
            f"{deployment.state}) from {env}? Requests to {deployment.address} will fail."
        )
        target.undeploy(name)
        say(f"{name} is not deployed: {deployment.address} was removed")
    return 0


def list_deployments(env: str) -> int:
    """Print the deployments of an environment, with price and end.

    Args:
        env: Name of the environment.
    """
    account = connect_account(env)
    targets = [connect_target(kind, account) for kind in TARGET_KINDS]
    deployments = [d for t in targets for d in _ask(t.kind, t.list) or ()]
    if not deployments:
        say(f"nothing is deployed in {env}. Deploy a version: temper deploy-model NAME@VERSION")
        return 0
    rows = [_row(deployment, account) for deployment in deployments]
    for line in aligned([("name", "to", "state", "model", "$/hour", "owner", "ends"), *rows]):
        say(line)
    for deployment in deployments:
        if deployment.detail:
            say(f"  {deployment.name}: {deployment.detail}")
    total = total_usd(_running(deployments), account.environment.region)
    if total is not None:
        say(f"${total:,.2f} an hour, ${24 * total:,.0f} a day")
    return 0


def _running(deployments: list[Deployment]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for deployment in deployments:
        for name, count in deployment.instances.items():
            counts[name] = counts.get(name, 0) + count
    return counts


def _row(deployment: Deployment, account: DeploymentAccount) -> tuple[str, ...]:
    usd = total_usd(deployment.instances, account.environment.region)
    return (
        deployment.name,
        deployment.to,
        deployment.state,
        deployment.model or "-",
        "?" if usd is None else f"{usd:.2f}",
        deployment.tags.get("temper:owner", "-"),
        deployment.end,
    )


def _request(
    account: DeploymentAccount, spec: DeploymentSpec, target: DeploymentTarget
) -> DeploymentRequest:
    model = find_model(account, spec.model, spec.form, needs=target.form)
    return DeploymentRequest(spec, model, account.owner)


def _show(request: DeploymentRequest, target: DeploymentTarget) -> None:
    model = request.model
    say(f"{model.id}, {model.form}, {model.size_bytes / 1e9:.2f} GB, approved ({model.package})")
    for line in target.quote(request).lines():
        say(line)


def _report(deployment: Deployment, account: DeploymentAccount) -> None:
    usd = total_usd(deployment.instances, account.environment.region)
    price = "" if usd is None else f", ${usd:.2f} an hour"
    say(f"{deployment.name} is {deployment.state}: {deployment.model}{price}")
    say(f"  address: {deployment.address}")
    say(f"  removed {deployment.end}; at once: temper undeploy {deployment.name}")


def _find_existing(account: DeploymentAccount, spec: DeploymentSpec) -> Deployment | None:
    """Return the deployment of a name, None if there is none.

    Raises:
        DeployModelError: The name is in use by a deployment of another kind.
    """
    own = connect_target(spec.to, account).find(spec.name)
    if own is not None:
        return own
    for kind in TARGET_KINDS:
        find = partial(connect_target(kind, account).find, spec.name)
        found = None if kind == spec.to else _ask(kind, find)
        if found is not None:
            raise DeployModelError(
                f"the name {spec.name} is in use by a deployment to {found.to} ({found.address}, "
                f"{found.state}). Choose another --name, or remove it: temper undeploy {spec.name}"
            )
    return None


def _existing(account: DeploymentAccount, name: str) -> Deployment:
    for kind in TARGET_KINDS:
        found = _ask(kind, partial(connect_target(kind, account).find, name))
        if found is not None:
            return found
    raise DeployModelError(
        f"{name} is not deployed. `temper deployments` lists what is, and "
        f"temper deploy-model deploys it"
    )


def _ask(kind: str, question: Callable[[], _Answer]) -> _Answer | None:
    """Return the answer of one kind of deployments; None, with a note, if AWS refuses to answer.

    Roles may have the right to deploy to one service and not to another.

    Args:
        kind: The kind.
        question: Asks it.

    Raises:
        DeployModelError: It cannot do what was asked, for a reason of its own.
    """
    try:
        return question()
    except DeployModelError:
        raise
    except LaunchError as error:
        say(f"deployments to {kind} cannot be seen: {error}")
        return None


def _known_values(account: DeploymentAccount, existing: Deployment | None) -> dict[str, Any]:
    """Return what a swap keeps of the deployment that runs.

    Args:
        account: Account of the deployment.
        existing: The deployment.
    """
    if existing is None:
        return {}
    (instance, count), *_ = [*existing.instances.items(), (None, None)]
    target = connect_target(existing.to, account)
    kept = target.kept(existing.name) if isinstance(target, RememberingTarget) else {}
    return {
        "to": existing.to,
        "instance": instance,
        "copies": count or None,
        "end": existing.end_values,
        **kept,
    }


def _kept_words(spec: DeploymentSpec, known: Mapping[str, Any]) -> str:
    """Return the keys that a swap keeps, apart from those that its quote shows."""
    words = []
    if spec.settings and spec.settings == known.get("settings"):
        words += [f"{key}={value}" for key, value in spec.settings.items()]
    if spec.scaling is not None and "scaling" in known:
        words.append(f"{spec.scaling.min} to {spec.scaling.max} copies")
    if spec.capture is not None and "capture" in known:
        words.append(f"{spec.capture:.0%} of the calls captured")
    if spec.form is not None and spec.form == known.get("form"):
        words.append(spec.form)
    if not spec.chat and "chat" in known:
        words.append("texts only")
    return ", ".join(words)


def _golden(spec: DeploymentSpec, target: DeploymentTarget) -> GoldenCheck | None:
    if spec.golden is None or not isinstance(target, AnsweringTarget):
        return None
    return GoldenCheck(read_golden(spec.golden.file), spec.golden, target, spec.name)


def _keep_golden(account: DeploymentAccount, spec: DeploymentSpec) -> None:
    """Put the golden prompts where the platform's function replays them, if it does."""
    if spec.golden is not None:
        text = spec.golden.file.read_text(encoding="utf-8")
        place = S3Uri(account.platform["buckets/runs"], f"{FILES}/{spec.name}/{GOLDEN_FILE}")
        S3Store(account.client("s3")).put_text(text, place)
        say(f"golden prompts: {place}")


def _golden_problems(spec: DeploymentSpec, target: DeploymentTarget) -> list[Problem]:
    if spec.golden is None or isinstance(target, AnsweringTarget):
        return []
    return [Problem("golden", f"a deployment to {spec.to} cannot be asked from here")]
