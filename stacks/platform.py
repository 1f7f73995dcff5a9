"""Construction of all stacks of one environment, in the order of their dependencies."""

from dataclasses import dataclass

import aws_cdk as cdk

from stacks.bedrock import BedrockStack
from stacks.constructs.handler_function import HandlerFunction
from stacks.deployment import DeploymentStack
from stacks.hyperpod import HyperPodStack
from stacks.images import ImagesStack
from stacks.monitoring import MonitoringStack
from stacks.network import NetworkStack
from stacks.pipelines import PipelinesStack
from stacks.role_defaults import apply_permissions_boundary, apply_role_path
from stacks.security import SecurityStack
from stacks.serving import ServingStack
from stacks.settings import Environment
from stacks.settings.table_checks import table_warnings
from stacks.storage import StorageStack
from stacks.training import TrainingStack


@dataclass(frozen=True)
class Platform:
    """Stacks of one environment; a disabled stack is None."""

    security: SecurityStack
    network: NetworkStack
    storage: StorageStack
    images: ImagesStack
    training: TrainingStack
    hyperpod: HyperPodStack | None
    bedrock: BedrockStack | None
    serving: ServingStack | None
    pipelines: PipelinesStack | None
    monitoring: MonitoringStack


def build(app: cdk.App, environment: Environment) -> Platform:
    """Build the stacks of an environment.

    Deterministic: nothing is looked up in an account and nothing is random, so synthesis needs no
    credentials and a template changes only when its inputs do.
    """
    security = SecurityStack(app, environment=environment)
    for check, warning in table_warnings(environment):
        cdk.Annotations.of(security).add_warning_v2(f"temper:{check}", warning)
    network = NetworkStack(app, environment=environment, logs_key=security.context.logs)
    storage = StorageStack(app, environment=environment, context=security.context, network=network)
    images = ImagesStack(
        app,
        environment=environment,
        context=security.context,
        storage=storage,
        build_role=security.build_role,
        approver_role=security.approver_role,
    )
    training = TrainingStack(
        app, environment=environment, security=security, network=network, storage=storage
    )
    handlers: list[HandlerFunction] = [images.promotion.handler]
    hyperpod = bedrock = serving = pipelines = None
    if environment.hyperpod.enabled:
        hyperpod = HyperPodStack(
            app, environment=environment, security=security, network=network, storage=storage
        )
        # Nodes attach network interfaces while the cluster is created, with a policy of that stack.
        hyperpod.add_stack_dependency(
            training, "its guardrails let nodes create network interfaces"
        )
        handlers += [hyperpod.bridge.handler] if hyperpod.bridge else []
    if environment.bedrock.enabled:
        bedrock = BedrockStack(app, environment=environment, context=security.context)
        handlers += bedrock.handlers
    if environment.serving.enabled:
        serving = ServingStack(app, environment=environment, security=security, network=network)
        handlers.append(serving.handler)
    if environment.pipelines.retraining:
        pipelines = PipelinesStack(app, environment=environment, security=security)
        handlers += pipelines.handlers
    monitoring = MonitoringStack(
        app,
        environment=environment,
        security=security,
        storage=storage,
        handlers=handlers,
        accounting_database=hyperpod.accounting_database if hyperpod else None,
    )
    monitoring.add_stack_dependency(training, "its metric filter reads the job log group")
    if serving:
        for deployment in environment.serving.deployments:
            DeploymentStack(
                app,
                environment=environment,
                settings=deployment,
                context=security.context,
                serving=serving,
                pages=monitoring.pages,
            )
    apply_permissions_boundary(app, security)
    apply_role_path(app, environment)
    return Platform(
        *(security, network, storage, images, training, hyperpod, bedrock, serving),
        *(pipelines, monitoring),
    )
