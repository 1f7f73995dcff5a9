"""Promotion of an image to the one that jobs use, after its vulnerability scan."""

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow, put_events
from stacks.settings.images import ImageSettings

BLOCKING_SEVERITIES = {"CRITICAL": ["CRITICAL"], "HIGH": ["CRITICAL", "HIGH"]}


class ImagePromotion(Construct):
    """Rules on finished scans and approvals, and the function that promotes or refuses the image.

    Basic scanning reports a scan as an event of ECR, enhanced scanning as one of Amazon Inspector;
    which of them a registry uses is a setting of the account. Promotion writes the parameter
    `/<prefix>/images/<kind>/uri`; a refusal is reported as an event.

    Args:
        scope: Parent construct.
        id: Construct id.
        names: Names and ARNs.
        context: Names and keys of the environment.
        repositories: Repositories of the images.
        settings: Settings of the images.
        approver: Role whose approvals count; None if none is required.
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
        approver: iam.IRole | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._names = names
        self.handler = HandlerFunction(
            self,
            "Promote",
            module="promote_image",
            context=context,
            variables={
                "PREFIX": names.prefix,
                "REFUSE_FROM": settings.refuse_findings_from,
                "SOURCE": names.event_source,
                **({"PROJECT": names.build_project} if settings.build else {}),
                **({"APPROVER_ROLE": approver.role_name} if approver else {}),
            },
            statements=self._statements(repositories, settings, approver),
        )
        for rule, (description, pattern) in scan_rules(repositories, settings).items():
            self._rule(rule, description, pattern)
        if approver:
            names_of_approvals = [names.parameter(f"images/{k}/approved") for k in settings.kinds]
            pattern = {
                "source": ["aws.ssm"],
                "detail-type": ["Parameter Store Change"],
                "detail": {"name": names_of_approvals, "operation": ["Create", "Update"]},
            }
            self._rule("Approved", "An image was approved", pattern)

    def _statements(
        self,
        repositories: Sequence[ecr.IRepository],
        settings: ImageSettings,
        approver: iam.IRole | None,
    ) -> list[iam.PolicyStatement]:
        names = self._names
        parameters = [
            names.arn("ssm", f"parameter/{names.prefix}/images/{k}/uri") for k in settings.kinds
        ]
        statements = [
            allow("Promote", ["ssm:GetParameter", "ssm:PutParameter"], parameters),
            allow(
                "ReadImages",
                ["ecr:DescribeImages", "ecr:DescribeImageScanFindings"],
                [repository.repository_arn for repository in repositories],
            ),
            put_events(names),
        ]
        if approver:
            approvals = [
                names.arn("ssm", f"parameter/{names.prefix}/images/{k}/approved")
                for k in settings.kinds
            ]
            statements.append(allow("ReadApprovals", ["ssm:GetParameterHistory"], approvals))
            if settings.build:
                statements.append(
                    allow(
                        "ReadBuilders",
                        ["codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"],
                        [names.arn("codebuild", f"project/{names.build_project}")],
                    )
                )
        return statements

    def _rule(self, id: str, description: str, pattern: Mapping[str, object]) -> None:
        rule = events.Rule(
            self,
            id,
            description=description,
            event_pattern=events.EventPattern(source=["overridden"]),
            targets=[self.handler.event_target(retries=4, max_age=cdk.Duration.hours(2))],
        )
        resource = rule.node.default_child
        assert isinstance(resource, events.CfnRule)
        resource.event_pattern = dict(pattern)


def scan_rules(
    repositories: Sequence[ecr.IRepository], settings: ImageSettings
) -> dict[str, tuple[str, dict[str, object]]]:
    """Return description and pattern of the rules on scans, by construct id.

    The payloads are documented at
    docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html (basic scanning) and
    docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-enhanced-events.html.
    """
    names = [repository.repository_name for repository in repositories]
    return {
        "Scanned": (
            "A pushed image was scanned",
            {
                "source": ["aws.ecr"],
                "detail-type": ["ECR Image Scan"],
                "detail": {"repository-name": names},
            },
        ),
        "Inspected": (
            "Amazon Inspector scanned a pushed image",
            {
                "source": ["aws.inspector2"],
                "detail-type": ["Inspector2 Scan"],
                # Amazon Inspector names the repository by its ARN.
                "detail": {"repository-name": [r.repository_arn for r in repositories]},
            },
        ),
        "Found": (
            "Amazon Inspector found a severe vulnerability in an image",
            {
                "source": ["aws.inspector2"],
                "detail-type": ["Inspector2 Finding"],
                "detail": {
                    "status": ["ACTIVE"],
                    "severity": BLOCKING_SEVERITIES[settings.refuse_findings_from],
                    "resources": {"details": {"awsEcrContainerImage": {"repositoryName": names}}},
                },
            },
        ),
    }
