"""Stack of pipelines that retrain: what starts them, and the function of their Lambda steps."""

from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.retraining_trigger import RetrainingTrigger
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.policies.iam_statements import allow
from stacks.policies.pipeline import STEP_LOG
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.temper_stack import TemperStack


class PipelinesStack(TemperStack):
    """Stack that pipelines need; `temper pipeline render --upsert` creates the pipelines.

    Attributes:
        handlers: Its functions.
    """

    def __init__(
        self, scope: Construct, *, environment: Environment, security: SecurityStack
    ) -> None:
        super().__init__(scope, "pipelines", environment=environment)
        settings, context = environment.pipelines, security.context
        assert security.pipeline_role and security.retraining_role
        steps = HandlerFunction(
            self,
            "Steps",
            module="retraining.step",
            log_name=STEP_LOG,
            context=context,
            role=security.retraining_role,
            variables={"PROMOTION": settings.promotion or ""},
        )
        iam.ManagedPolicy(
            self,
            "CallSteps",
            roles=[security.pipeline_role],
            statements=[
                allow("CallSteps", ["lambda:InvokeFunction"], [steps.function.function_arn])
            ],
        )
        triggers = [
            RetrainingTrigger(
                self,
                f"Start{''.join(part.title() for part in one.name.split('-'))}",
                names=self.names,
                context=context,
                settings=one,
                role=security.retraining_role,
            )
            for one in settings.retraining
        ]
        self.handlers = [steps, *(trigger.handler for trigger in triggers)]
        publish_parameters(
            self,
            self.names,
            {
                "roles/pipeline": security.pipeline_role.role_arn,
                "pipelines/step-function": steps.function.function_arn,
            },
        )
