"""Deployment and deletion of an environment, in steps that CloudFormation accepts."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from stacks.errors import DeploymentError
from stacks.transitions.adoption import adoptable, all_exports, import_template
from stacks.transitions.assembly import read_assembly, with_templates
from stacks.transitions.changes import Change, deletion_policy
from stacks.transitions.endpoint_services import unsupported_zones
from stacks.transitions.expansion import expand
from stacks.transitions.live import READERS, LiveEnvironment, in_order_of_deletion
from stacks.transitions.plan import DeploymentPlan, hourly, make_plan, plan_lines
from stacks.transitions.references import Templates, exports, imports

Say = Callable[[str], None]
Confirm = Callable[[str], None]
RunCdk = Callable[[Sequence[str]], None]


def plan_deployment(live: LiveEnvironment, assembly: Path) -> DeploymentPlan:
    """Compare the account with a synthesized environment.

    Raises:
        DeploymentError: Another deployment is under way.
    """
    busy = [each.name for each in live.stacks.values() if each.status.endswith("_IN_PROGRESS")]
    busy = [name for name in busy if live.stacks[name].status != "REVIEW_IN_PROGRESS"]
    if busy:
        raise DeploymentError(
            f"{', '.join(busy)}: another deployment is under way; wait for its end"
        )
    new = {name: stack.template for name, stack in read_assembly(assembly).items()}
    return make_plan(live.templates(), new)


def show_plan(live: LiveEnvironment, plan: DeploymentPlan, say: Say) -> list[str]:
    """Print a plan, and return its refusals.

    Args:
        live: The environment in the account.
        plan: The plan.
        say: Function that prints a line.
    """
    for line in plan_lines(plan):
        say(line)
    for stack in live.other_prefixes.values():
        say(
            f"Stack {stack.name} belongs to this environment's name under another prefix and is "
            f"not touched: {hourly(stack.template)}. If the prefix was changed, restore it and run "
            "`make destroy` to delete it"
        )
    refusals = [*plan.refusals, *live_refusals(live, plan)]
    for refusal in refusals:
        say(f"Refused: {refusal}")
    return refusals


def live_refusals(live: LiveEnvironment, plan: DeploymentPlan) -> Iterable[str]:
    """Return what AWS would refuse and only the account knows."""
    return unsupported_zones(plan, live.client("ec2", READERS))


def deploy(
    live: LiveEnvironment,
    assembly: Path,
    *,
    run_cdk: RunCdk,
    confirm: Confirm,
    say: Say,
    options: Sequence[str] = (),
) -> None:
    """Deploy an environment, and delete its stacks that the file no longer has.

    Args:
        live: The environment in the account.
        assembly: The synthesized environment.
        run_cdk: Function that runs the CDK CLI.
        confirm: Function that asks, and raises if the answer is no.
        say: Function that prints a line.
        options: Options for `cdk deploy`.

    Raises:
        DeploymentError: CloudFormation would refuse a change; nothing was deployed.
    """
    plan = plan_deployment(live, assembly)
    if show_plan(live, plan, say):
        raise DeploymentError("nothing was deployed: see what is refused above")
    if plan.needs_confirmation:
        confirm(_question(plan))
    stays = list(_retained(live, plan.changes))
    for _ in range(len(plan.new) + 2):
        expanded = expand(live.templates(), plan.new)
        folder = assembly
        if expanded:
            say(f"Keeping for this step what is still in use: {', '.join(sorted(expanded))}")
            folder = with_templates(
                assembly, expanded, assembly.with_name(f"{assembly.name}.expanded")
            )
        _deploy_round(live, folder, run_cdk, say, options)
        _delete(live, [name for name in plan.stale if name in live.stacks], say)
        if not expanded:
            break
    for line in stays:
        say(line)


def _deploy_round(
    live: LiveEnvironment, folder: Path, run_cdk: RunCdk, say: Say, options: Sequence[str]
) -> None:
    """Deploy an assembly; import what an earlier deployment left in the account before that.

    Args:
        live: The environment in the account.
        folder: The assembly.
        run_cdk: Function that runs the CDK CLI.
        say: Function that prints a line.
        options: Options for `cdk deploy`.
    """
    stacks = read_assembly(folder)
    found = live.retained()
    adopted = {
        name: {
            logical_id: each
            for logical_id, each in adoptable(
                live.templates().get(name, {}), stack.template, found.get(name, {})
            ).items()
            if live.exists(each)
        }
        for name, stack in stacks.items()
    }
    if not any(adopted.values()):
        run_cdk(["deploy", "--all", "--app", str(folder), *options])
        live.read()
        return
    for name, stack in stacks.items():
        wanted = adopted[name]
        if wanted:
            templates = live.templates()
            template = import_template(
                templates.get(name, {}), stack.template, wanted, all_exports(templates)
            )
            for each in wanted.values():
                say(f"Adopting {each.resource_type} {each.physical_id}")
            live.import_resources(name, template, wanted, stack.tags)
        run_cdk(["deploy", name, "--exclusively", "--app", str(folder), *options])
        live.read()


def destroy(live: LiveEnvironment, *, confirm: Confirm, say: Say) -> None:
    """Delete all stacks of an environment, termination protection included.

    Args:
        live: The environment in the account.
        confirm: Function that asks, and raises if the answer is no.
        say: Function that prints a line.
    """
    if not live.stacks:
        say("Nothing is deployed.")
        return
    plan = make_plan(live.templates(), {})
    for line in plan_lines(plan):
        say(line)
    confirm(_question(plan))
    stays = list(_retained(live, plan.changes))
    _delete(live, list(live.stacks), say)
    for line in [*stays, *(f"Kept, because it is not empty: {each}" for each in live.kept)]:
        say(line)
    if stays or live.kept:
        say("The next `make deploy` of this environment adopts them, within 90 days.")


def _delete(live: LiveEnvironment, names: list[str], say: Say) -> None:
    templates = live.templates()
    for name in in_order_of_deletion(names, lambda each: _users(templates, each)):
        say(f"Deleting {name} …")
        live.delete(name)


def _users(templates: Templates, producer: str) -> list[str]:
    exported = set(exports(templates[producer]))
    return sorted(
        name
        for name, template in templates.items()
        if name != producer and exported & imports(template)
    )


def _question(plan: DeploymentPlan) -> str:
    parts = []
    if plan.stale:
        parts.append(f"delete {', '.join(plan.stale)}")
    lost = [each for each in plan.losses if each.stack not in plan.stale]
    if lost:
        names = ", ".join(f"{each.stack}/{each.logical_id}" for each in lost)
        parts.append(f"remove or replace {names}")
    return f"Really {' and '.join(parts)}?"


def _retained(live: LiveEnvironment, changes: Iterable[Change]) -> Iterable[str]:
    """Yield the resources that stay in the account and keep costing, with their physical ids."""
    gone = [each for each in changes if each.kind in ("deleted", "replaced")]
    for stack in sorted({each.stack for each in gone if each.policy == "Retain"}):
        ids = live.physical_ids(stack)
        resources = live.stacks[stack].template["Resources"]
        for change in gone:
            if change.stack != stack or deletion_policy(resources[change.logical_id]) != "Retain":
                continue
            cost = hourly({"Resources": {change.logical_id: resources[change.logical_id]}})
            price = "" if cost.startswith("0.00 USD per hour at the prices of us-east-1") else cost
            yield (
                f"Stays in the account, no longer managed: {change.resource_type} "
                f"{ids.get(change.logical_id, change.logical_id)}{price and f', {price}'}"
            )
