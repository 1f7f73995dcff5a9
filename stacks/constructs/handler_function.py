"""Lambda function of the platform, with its role, log group and dead-letter queue."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.service_role import ServiceRole
from stacks.policies.iam_statements import IamContext, write_logs

ROOT = Path(__file__).parents[2]
HANDLERS = Path(__file__).parent.parent / "handlers"


class HandlerFunction(Construct):
    """Lambda function that runs `stacks/handlers/<module>.py`.

    An event that still fails after two retries goes to the dead-letter queue.

    Args:
        scope: Parent construct.
        id: Construct id.
        module: Module of `stacks/handlers`, dotted if it is in a package of it.
        context: Names and keys of the environment.
        variables: Environment variables.
        statements: Permissions beyond those for logs, the queue and its key.
        role: Existing role to run as; a new one if None.
        entry: Name of the handler function in the module.
        log_name: Last part of the log group's name; the module's name if None.
        minutes: Timeout.
        shared: Files of other packages that the module imports, from the root of the project.

    Attributes:
        function: The Lambda function.
        undelivered: Its dead-letter queue.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        module: str,
        context: IamContext,
        variables: Mapping[str, str],
        statements: Sequence[iam.PolicyStatement] = (),
        role: iam.IRole | None = None,
        entry: str = "handler",
        log_name: str | None = None,
        minutes: int = 1,
        shared: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, id)
        title = log_name or module.replace("_", "-")
        log = EncryptedLogGroup(
            self,
            "Log",
            name=f"/temper/{context.names.prefix}/{title}",
            key=context.logs,
            days=90,
            removal=cdk.RemovalPolicy.DESTROY,
        ).group
        self.undelivered = sqs.Queue(
            self,
            "Undelivered",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=context.messages,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        self.role: iam.IRole = (
            role
            or ServiceRole(
                self, "Role", service="lambda.amazonaws.com", description=f"Runs {module}"
            ).role
        )
        permissions = [
            write_logs(context, f"/temper/{context.names.prefix}/{title}"),
            iam.PolicyStatement(
                sid="KeepUndelivered",
                actions=["sqs:SendMessage"],
                resources=[self.undelivered.queue_arn],
            ),
            iam.PolicyStatement(
                sid="UseMessagesKey",
                actions=[
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                ],
                resources=[context.messages.key_arn],
            ),
            *statements,
        ]
        policy = iam.ManagedPolicy(self, "Policy", statements=permissions, roles=[self.role])
        self.function = lambda_.Function(
            self,
            "Function",
            description=f"Temper: {module}",
            runtime=lambda_.Runtime.PYTHON_3_14,
            architecture=lambda_.Architecture.ARM_64,
            code=_code(module, shared),
            handler=f"{'stacks.' if shared else ''}handlers.{module}.{entry}",
            # Without policy updates: CDK would add an inline policy for the queue and the key,
            # which the managed policy above already covers.
            role=iam.Role.without_policy_updates(self.role)
            if isinstance(self.role, iam.Role)
            else self.role,
            environment=dict(variables),
            environment_encryption=context.messages,
            dead_letter_queue=self.undelivered,
            retry_attempts=2,
            timeout=cdk.Duration.minutes(minutes),
            memory_size=256,
            log_group=log,
            logging_format=lambda_.LoggingFormat.TEXT,
        )
        # An event that arrives during the deployment must not find a function without permissions.
        self.function.node.add_dependency(policy)

    def event_target(
        self,
        *,
        retries: int,
        max_age: cdk.Duration,
        message: events.RuleTargetInput | None = None,
    ) -> targets.LambdaFunction:
        """Return the function as the target of an EventBridge rule.

        Retries cover events that EventBridge cannot deliver, such as during throttling; what is
        still undelivered after `max_age` goes to the dead-letter queue.

        Args:
            retries: Attempts after the first.
            max_age: Time after which an event is given up.
            message: What the function is given; the event if None.
        """
        return targets.LambdaFunction(
            self.function,
            dead_letter_queue=self.undelivered,
            retry_attempts=retries,
            max_event_age=max_age,
            event=message,
        )


def _code(module: str, shared: Sequence[str]) -> lambda_.Code:
    """Return the package `handlers`, or the package of a module with what it shares.

    Folders are as here, so that modules import each other as here.
    """
    if not shared:
        folder, kept = HANDLERS.parent, ["handlers/", "handlers/**"]
    else:
        package = f"stacks/handlers/{module.partition('.')[0]}"
        files = ["stacks/__init__.py", "stacks/handlers/__init__.py", *shared]
        folders = sorted({f"{Path(file).parent}/" for file in files})
        folder, kept = ROOT, [*folders, f"{package}/", f"{package}/**", *files]
    return lambda_.Code.from_asset(
        str(folder),
        exclude=["*", *(f"!{path}" for path in kept), "__pycache__", "*.pyc"],
        ignore_mode=cdk.IgnoreMode.GIT,
    )
