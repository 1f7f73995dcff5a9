"""Promotion of an image to the one that jobs use, after its vulnerability scan."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_events as events
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow, put_events
from stacks.settings.images import ImageSettings


class ImagePromotion(Construct):
    """Rule on `ECR Image Scan`, and the function that promotes or refuses the image.

    Promotion writes the parameter `/<prefix>/images/<kind>/uri`; a refusal is reported as an event.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        repositories: Sequence[ecr.IRepository],
        settings: ImageSettings,
    ) -> None:
        super().__init__(scope, id)
        parameters = [
            names.arn("ssm", f"parameter/{names.prefix}/images/{k}/uri") for k in settings.kinds
        ]
        self.handler = HandlerFunction(
            self,
            "Promote",
            module="promote_image",
            context=context,
            variables={
                "PREFIX": names.prefix,
                "REFUSE_FROM": settings.refuse_findings_from,
                "SOURCE": names.event_source,
            },
            statements=[
                allow("Promote", ["ssm:PutParameter"], parameters),
                put_events(names),
            ],
        )
        events.Rule(
            self,
            "Scanned",
            description="A pushed image was scanned",
            event_pattern=events.EventPattern(
                source=["aws.ecr"],
                detail_type=["ECR Image Scan"],
                detail={"repository-name": [r.repository_name for r in repositories]},
            ),
            targets=[self.handler.event_target(retries=4, max_age=cdk.Duration.hours(2))],
        )
