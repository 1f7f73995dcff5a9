"""The stacks of an environment as they are in the account, and changes of them.

Everything goes through the lookup and deployment roles of `cdk bootstrap`, so that a pipeline that
may assume only these can use it; a person without them uses permissions of their own.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from stacks.errors import DeploymentError
from stacks.settings import Environment
from stacks.transitions.adoption import Retained

POLL_SECONDS = 10
# Roles of `cdk bootstrap`. The one that deploys may read nothing but CloudFormation.
ROLES, READERS = ("deploy-role", "lookup-role"), ("lookup-role",)
# CloudFormation deletes them only if they are empty.
MUST_BE_EMPTY = ("AWS::S3::Bucket", "AWS::ECR::Repository")
# The stack exists, but nothing in it does: its first deployment was rolled back.
EMPTY = ("ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS")


@dataclass(frozen=True)
class LiveStack:
    """Stack of an environment in the account.

    Attributes:
        name: Name of the stack.
        arn: Its ARN.
        status: Status as CloudFormation reports it.
        template: Its template; without resources if its first deployment was rolled back.
        termination_protection: True if CloudFormation refuses to delete it.
    """

    name: str
    arn: str
    status: str
    template: dict[str, Any]
    termination_protection: bool


class LiveEnvironment:
    """Stacks that carry the tags of one environment.

    Args:
        environment: The environment.
        session: A boto3 session.

    Attributes:
        stacks: The stacks whose name begins with the prefix of the environment, by name.
        other_prefixes: Stacks of the environment's name under another prefix.
        kept: Buckets and repositories that were left behind, because they are not empty.
    """

    def __init__(self, environment: Environment, session: Any) -> None:
        self._environment, self._session = environment, session
        self._execution_role: dict[str, str] = {}
        self.account: str = session.client("sts").get_caller_identity()["Account"]
        if environment.account not in (None, self.account):
            raise DeploymentError(
                f"account: the credentials belong to {self.account}, and environments/"
                f"{environment.name}.yaml is for {environment.account}; use other credentials"
            )
        self._cloudformation = self.client("cloudformation")
        self.kept: list[str] = []
        self.read()

    def read(self) -> None:
        """Read the stacks again."""
        self.stacks: dict[str, LiveStack] = {}
        self.other_prefixes: dict[str, LiveStack] = {}
        for page in self._cloudformation.get_paginator("describe_stacks").paginate():
            for stack in page["Stacks"]:
                tags = {each["Key"]: each["Value"] for each in stack.get("Tags", [])}
                if (tags.get("Project"), tags.get("Environment")) != (
                    "temper",
                    self._environment.name,
                ):
                    continue
                ours = stack["StackName"].startswith(f"{self._environment.prefix}-")
                found = self.stacks if ours else self.other_prefixes
                found[stack["StackName"]] = self._live_stack(stack)

    def templates(self) -> dict[str, dict[str, Any]]:
        """Return the templates of the stacks, by name."""
        return {name: stack.template for name, stack in self.stacks.items()}

    def delete(self, name: str) -> None:
        """Delete a stack, termination protection included, and wait.

        Raises:
            DeploymentError: CloudFormation did not delete it; the message has its reasons.
        """
        stack = self.stacks[name]
        if stack.termination_protection:
            self._cloudformation.update_termination_protection(
                StackName=name, EnableTerminationProtection=False
            )
        self._cloudformation.delete_stack(StackName=stack.arn)
        status = self._wait(stack.arn)
        occupied = self._not_empty(stack) if status == "DELETE_FAILED" else {}
        if occupied:
            # Only a stack whose deletion failed accepts resources to keep.
            self._cloudformation.delete_stack(StackName=stack.arn, RetainResources=list(occupied))
            status = self._wait(stack.arn)
        if status != "DELETE_COMPLETE":
            reasons = "\n".join(f"  {each}" for each in self._failures(stack.arn).values())
            raise DeploymentError(
                f"{name}: the deletion ended as {status}:\n{reasons}\n"
                "Remove what it names, then run the same command again"
            )
        self.kept += occupied.values()
        del self.stacks[name]

    def retained(self) -> dict[str, dict[str, Retained]]:
        """Return what CloudFormation left in the account and still exists, by stack and logical id.

        It remembers the events of live stacks, and those of deleted stacks for 90 days.
        """
        arns = {stack.arn: name for name, stack in self.stacks.items()}
        pages = self._cloudformation.get_paginator("list_stacks").paginate(
            StackStatusFilter=["DELETE_COMPLETE"]
        )
        for page in pages:
            for stack in page["StackSummaries"]:
                if stack["StackName"].startswith(f"{self._environment.prefix}-"):
                    arns[stack["StackId"]] = stack["StackName"]
        found: dict[str, dict[str, Retained]] = {}
        latest: dict[tuple[str, str], Any] = {}
        for arn, name in arns.items():
            for event in self._skipped(arn):
                key = (name, event["LogicalResourceId"])
                if key not in latest or latest[key] < event["Timestamp"]:
                    latest[key] = event["Timestamp"]
                    found.setdefault(name, {})[event["LogicalResourceId"]] = Retained(
                        event["ResourceType"], event["PhysicalResourceId"]
                    )
        return found

    def exists(self, resource: Retained) -> bool:
        """Return whether a retained resource still exists; True if it cannot be asked."""
        from botocore.exceptions import ClientError

        client = self.client("cloudcontrol", READERS)
        try:
            client.get_resource(TypeName=resource.resource_type, Identifier=resource.physical_id)
        except ClientError as error:
            return bool(error.response["Error"]["Code"] != "ResourceNotFoundException")
        return True

    def import_resources(
        self,
        name: str,
        template: Mapping[str, Any],
        wanted: Mapping[str, Retained],
        tags: Mapping[str, str],
    ) -> None:
        """Import existing resources into a stack, which is created if need be, and wait.

        Args:
            name: Name of the stack.
            template: Template of the import.
            wanted: The resources, by logical id.
            tags: Tags of the stack.

        Raises:
            DeploymentError: CloudFormation refused the import.
        """
        change_set = self._cloudformation.create_change_set(
            StackName=name,
            ChangeSetName="adopt",
            ChangeSetType="IMPORT",
            TemplateBody=json.dumps(template),
            ResourcesToImport=[
                {
                    "ResourceType": each.resource_type,
                    "LogicalResourceId": logical_id,
                    "ResourceIdentifier": each.identifier,
                }
                for logical_id, each in wanted.items()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            **self._execution_role,
        )
        arn, status = change_set["Id"], "CREATE_PENDING"
        while status in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            answer = self._cloudformation.describe_change_set(ChangeSetName=arn)
            status = answer["Status"]
            time.sleep(
                POLL_SECONDS if status.startswith("CREATE_") and "COMPLETE" not in status else 0
            )
        if status != "CREATE_COMPLETE":
            raise DeploymentError(f"{name}: the import was refused: {answer.get('StatusReason')}")
        self._cloudformation.execute_change_set(ChangeSetName=arn)
        ended = self._wait(change_set["StackId"])
        if ended != "IMPORT_COMPLETE":
            reasons = "\n".join(f"  {each}" for each in self._failures(name).values())
            raise DeploymentError(f"{name}: the import ended as {ended}:\n{reasons}")

    def _skipped(self, arn: str) -> Iterable[dict[str, Any]]:
        pages = self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=arn)
        for page in pages:
            for event in page["StackEvents"]:
                if event["ResourceStatus"] == "DELETE_SKIPPED":
                    yield event

    def physical_ids(self, name: str) -> dict[str, str]:
        """Return the physical ids of a stack's resources, by logical id."""
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        return {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for page in pages
            for each in page["StackResourceSummaries"]
            if each.get("PhysicalResourceId")
        }

    def _live_stack(self, stack: dict[str, Any]) -> LiveStack:
        template: dict[str, Any] = {}
        if stack["StackStatus"] not in EMPTY:
            body = self._cloudformation.get_template(StackName=stack["StackName"])["TemplateBody"]
            template = body if isinstance(body, dict) else _parse(body)
        return LiveStack(
            stack["StackName"],
            stack["StackId"],
            stack["StackStatus"],
            template,
            bool(stack.get("EnableTerminationProtection")),
        )

    def _wait(self, arn: str) -> str:
        while True:
            [stack] = self._cloudformation.describe_stacks(StackName=arn)["Stacks"]
            status: str = stack["StackStatus"]
            if not status.endswith("_IN_PROGRESS"):
                return status
            time.sleep(POLL_SECONDS)

    def _not_empty(self, stack: LiveStack) -> dict[str, str]:
        """Return the buckets and repositories that CloudFormation did not delete, as not empty."""
        failed, resources = self._failures(stack.arn), stack.template.get("Resources", {})
        kinds = {each: resources.get(each, {}).get("Type") for each in failed}
        return {
            each: f"{kind} {self.physical_ids(stack.arn).get(each, each)}"
            for each, kind in kinds.items()
            if kind in MUST_BE_EMPTY
        }

    def _failures(self, arn: str) -> dict[str, str]:
        """Return the reasons for which the last operation failed, by logical id."""
        events = self._cloudformation.describe_stack_events(StackName=arn)["StackEvents"]
        return {
            event["LogicalResourceId"]: f"{event['LogicalResourceId']} ({event['ResourceType']}): "
            f"{event.get('ResourceStatusReason', 'no reason given')}"
            for event in events
            if event["ResourceStatus"].endswith("_FAILED")
        }

    def client(self, service: str, roles: Sequence[str] = ROLES) -> Any:
        """Return a client with a role of the bootstrap, or else as the caller.

        The role that deploys is preferred; a pull request may assume only the one that reads.

        Args:
            service: Name of the service.
            roles: Kinds of roles to try, in order.
        """
        from botocore.exceptions import ClientError

        environment = self._environment
        partition = self._session.get_partition_for_region(environment.region)
        options: dict[str, Any] = {"region_name": environment.region}
        for kind in roles:
            role = (
                f"arn:{partition}:iam::{self.account}:role/cdk-{environment.cdk_qualifier}-{kind}-"
                f"{self.account}-{environment.region}"
            )
            try:
                answer = self._session.client("sts").assume_role(
                    RoleArn=role, RoleSessionName="temper-deploy"
                )
            except ClientError:
                continue
            if kind == "deploy-role":
                # Deployments through this role create resources through the execution role.
                execution = role.replace("-deploy-role-", "-cfn-exec-role-")
                self._execution_role = {"RoleARN": execution}
            credentials = answer["Credentials"]
            return self._session.client(
                service,
                aws_access_key_id=credentials["AccessKeyId"],
                aws_secret_access_key=credentials["SecretAccessKey"],
                aws_session_token=credentials["SessionToken"],
                **options,
            )
        return self._session.client(service, **options)


def in_order_of_deletion(names: Iterable[str], users: Callable[[str], Iterable[str]]) -> list[str]:
    """Return stacks such that each comes after those that import from it.

    Args:
        names: Names of the stacks.
        users: Function that returns the stacks which import from a stack.

    Raises:
        DeploymentError: Stacks import from each other, or another stack imports from one of them.
    """
    waiting, ordered = sorted(names), list[str]()
    while waiting:
        free = [name for name in waiting if set(users(name)) <= set(ordered)]
        if not free:
            using = "; ".join(f"{name} by {', '.join(users(name))}" for name in waiting)
            raise DeploymentError(f"these stacks are still in use: {using}; remove the users first")
        ordered += free
        waiting = [name for name in waiting if name not in free]
    return ordered


def _parse(body: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(body)
    except ValueError:
        content = yaml.safe_load(body)
    return content
