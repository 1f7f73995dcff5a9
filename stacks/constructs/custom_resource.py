"""Custom resource provider with asynchronous completion."""

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import custom_resources as cr
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.policies.iam_statements import IamContext


class AwaitedProvider(Construct):
    """CDK provider backed by one handler module.

    `on_event` starts an operation. With `wait`, the provider's state machine calls `is_complete`
    until the operation has finished; without it, `on_event` finishes the operation itself.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        module: str,
        context: IamContext,
        statements: Sequence[iam.PolicyStatement],
        wait: bool,
        role: iam.IRole | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.handlers = [
            HandlerFunction(
                self,
                entry.title().replace("_", ""),
                module=module,
                log_name=f"{module}-{entry}".replace("_", "-"),
                entry=entry,
                context=context,
                variables={},
                statements=statements,
                role=role,
            )
            for entry in (["on_event", "is_complete"] if wait else ["on_event"])
        ]
        self.provider = cr.Provider(
            self,
            "Provider",
            on_event_handler=self.handlers[0].function,
            is_complete_handler=self.handlers[1].function if wait else None,
            query_interval=cdk.Duration.minutes(1) if wait else None,
            total_timeout=cdk.Duration.hours(2) if wait else None,
            disable_waiter_state_machine_logging=True if wait else None,
        )

    def add_resource(
        self, id: str, kind: str, properties: Mapping[str, object]
    ) -> cdk.CustomResource:
        """Add a custom resource that this provider manages.

        Args:
            id: Construct id.
            kind: Resource type, without `Custom::`.
            properties: Properties that the handler receives.
        """
        return cdk.CustomResource(
            self,
            id,
            resource_type=f"Custom::{kind}",
            service_token=self.provider.service_token,
            properties=dict(properties),
        )
