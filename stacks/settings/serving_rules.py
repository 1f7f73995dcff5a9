"""Rules of deployments that span several of their settings."""

import difflib
import fnmatch
from collections.abc import Callable, Iterator

from catalog.prices import price
from stacks.aws_data.tables import endpoint_instances
from stacks.settings.base import duplicates
from stacks.settings.environment import Environment
from stacks.settings.serving import LONGEST_VARIABLE, DeploymentSettings

HOURS_PER_MONTH = 730
HOURS_OF_ALARM = 168
"""docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html: seven days, for
periods of an hour or more."""
VARIABLES = "TEMPER_SERVE_"


def deployments(environment: Environment) -> Iterator[str]:
    """Yield the problems of every deployment."""
    serving = environment.serving
    if serving.deployments and not serving.enabled:
        yield (
            "serving.deployments: listed, but serving.enabled is false; enable serving, or remove "
            "the list"
        )
    yield from duplicates("serving.deployments", [each.name for each in serving.deployments])
    for index, deployment in enumerate(serving.deployments):
        key = f"serving.deployments.{index}"
        for rule in RULES:
            yield from rule(environment, deployment, key)


def bedrock_replays(environment: Environment) -> Iterator[str]:
    """Yield replays of golden prompts that are listed twice, or keep throughput from its removal.

    Both kinds of deployments share the folders and the metrics of their names.
    """
    bedrock = environment.bedrock
    names = [each.name for each in bedrock.golden]
    others = [each.name for each in environment.serving.deployments]
    yield from duplicates("bedrock.golden", [*names, *(n for n in others if n in names)])
    for index, golden in enumerate(bedrock.golden):
        is_removed = golden.to == "bedrock-throughput" and bedrock.enabled
        if is_removed and golden.every_hours <= bedrock.idle_hours:
            yield (
                f"bedrock.golden.{index}.every_hours: a replay every {golden.every_hours} hours "
                f"counts as calls, so that the throughput is never idle for {bedrock.idle_hours} "
                f"hours (bedrock.idle_hours); raise it above {bedrock.idle_hours}"
            )


def instance_findings(environment: Environment) -> Iterator[str]:
    """Yield the instance types that no table of endpoints has, with the type that is meant."""
    known = endpoint_instances()
    for index, deployment in enumerate(environment.serving.deployments):
        for instance in _instances(deployment):
            if instance not in known:
                close = difflib.get_close_matches(instance, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                yield (
                    f"serving.deployments.{index}.instance: endpoints have no type {instance}{hint}"
                )
    for index, pattern in enumerate(environment.serving.allowed_instance_types):
        if not fnmatch.filter(known, pattern):
            yield (
                f"serving.allowed_instance_types.{index}: endpoints have no type {pattern}; write "
                "one like ml.g5.2xlarge, or a family like ml.g5.*"
            )


def _instances(deployment: DeploymentSettings) -> list[str]:
    shadow = deployment.shadow.instance if deployment.shadow else None
    return [deployment.instance, *([shadow] if shadow else [])]


def _end(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    end = deployment.end
    if not (end.until or end.idle_hours or end.forever):
        yield (
            f"{key}.end: {deployment.name!r} has none, and would be billed without a limit; "
            "write until: TIME, idle_hours: HOURS, or forever: REASON"
        )
    if end.forever and (end.until or end.idle_hours):
        yield f"{key}.end: forever excludes until and idle_hours; remove one of them"


def _image(environment: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    if deployment.image_kind not in environment.images.kinds:
        yield (
            f"{key}.image_kind: images.kinds has no {deployment.image_kind!r}, so there is no "
            "repository to pull from; add it to images.kinds"
        )


def _scaling(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    scaling = deployment.scaling
    if scaling.max < max(1, scaling.min):
        yield (
            f"{key}.scaling: max {scaling.max} is less than {max(1, scaling.min)}; raise max, or "
            "lower min"
        )
    if scaling.min == 0 and deployment.to == "variant":
        yield (
            f"{key}.scaling.min: a variant keeps at least one instance; set min: 1, or "
            "to: component, which scales to zero"
        )


def _component(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    if deployment.to == "variant":
        if deployment.needs:
            yield f"{key}.needs: a variant gets whole instances; remove it, or set to: component"
        return
    if not deployment.needs:
        yield (
            f"{key}.needs: a component gets part of an instance; write needs: {{memory_mib: …, "
            "accelerators: …}"
        )
    if deployment.shadow:
        yield f"{key}.shadow: endpoints with components have none; remove it, or set to: variant"
    if deployment.capture:
        yield f"{key}.capture: endpoints with components capture nothing; remove it"
    if deployment.watch:
        yield f"{key}.watch: endpoints with components capture no calls to compare; remove it"
    if "how" in deployment.shifting.model_fields_set:
        yield (
            f"{key}.shifting.how: a component is replaced batch by batch, of `percent` of its "
            "copies; remove how"
        )


def _shifting(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    shifting = deployment.shifting
    if shifting.how == "linear" and shifting.percent < 10:
        yield (f"{key}.shifting.percent: {shifting.percent} is not a linear step; take 10 to 50")


def _types(environment: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    allowed = environment.serving.allowed_instance_types
    for instance in _instances(deployment):
        if allowed and not any(fnmatch.fnmatch(instance, pattern) for pattern in allowed):
            yield (
                f"{key}.instance: {instance} is not among serving.allowed_instance_types "
                f"({', '.join(allowed)}); take one of them, or add it there"
            )


def _variables(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    for name, value in deployment.variables.items():
        if not name.startswith(VARIABLES):
            yield f"{key}.variables.{name}: settings of the server begin with {VARIABLES}"
        if name == f"{VARIABLES}NAME":
            yield f"{key}.variables.{name}: it is the name of the deployment; remove it"
        if len(value) > LONGEST_VARIABLE:
            yield (
                f"{key}.variables.{name}: {len(value)} characters, and a variable holds "
                f"{LONGEST_VARIABLE}; put the value into the model's folder"
            )


def _budget(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    """Yield a budget that the instances that always run exceed, if the price is known."""
    known = price(deployment.instance)
    if known is None or not deployment.end.forever:
        return
    least = known.on_demand_usd * HOURS_PER_MONTH * deployment.scaling.min
    if least > deployment.monthly_usd:
        yield (
            f"{key}.monthly_usd: {deployment.scaling.min} × {deployment.instance} cost "
            f"{least:,.0f} USD a month, and the budget is {deployment.monthly_usd:,}; raise it, or "
            "give the deployment an end"
        )


def _watch(environment: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    """Yield what a watch lacks: captured calls, and an alarm that CloudWatch can evaluate."""
    watch = deployment.watch
    if watch is None:
        return
    if deployment.to == "variant" and not deployment.capture:
        yield f"{key}.watch: it compares captured calls; write capture: {{percent: …}}"
    if "serve" not in environment.images.kinds:
        yield f"{key}.watch.image: images.kinds has no 'serve', whose image the job runs; add it"
    if watch.judge and watch.judge.model not in environment.bedrock.judges:
        yield (
            f"{key}.watch.judge.model: bedrock.judges does not have {watch.judge.model!r}, so that "
            "no role may call it; add it there"
        )
    if watch.flagged > watch.of:
        yield f"{key}.watch.flagged: {watch.flagged} of {watch.of} windows; at most {watch.of}"
    if watch.of * watch.every_hours > HOURS_OF_ALARM:
        yield (
            f"{key}.watch.of: {watch.of} windows of {watch.every_hours} hours are more than the "
            f"{HOURS_OF_ALARM} hours that an alarm looks at; lower of or every_hours"
        )


def _golden(_: Environment, deployment: DeploymentSettings, key: str) -> Iterator[str]:
    """Yield what a replay on a schedule would undo: the end of a deployment that is idle."""
    golden, hours = deployment.golden, deployment.end.idle_hours
    if golden and hours and golden.every_hours <= hours:
        yield (
            f"{key}.golden.every_hours: a replay every {golden.every_hours} hours counts as calls, "
            f"so that the deployment is never idle for {hours} hours; raise it above {hours}, or "
            "write another end"
        )


Rule = Callable[[Environment, DeploymentSettings, str], Iterator[str]]
RULES: tuple[Rule, ...] = (
    _end, _image, _scaling, _component, _shifting, _types, _variables, _budget, _watch, _golden,
)  # fmt: skip
