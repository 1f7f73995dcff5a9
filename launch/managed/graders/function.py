"""Lambda function of a run's grader, created from its rewards before the job that calls it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from launch.aws.create_training_job import job_tags
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession, accept_existing, explain_aws_errors
from launch.managed.graders.package import HANDLER, GraderPackage
from launch.submission import Submission

ROLE = "roles/grader"
LOG_GROUP = "training/grader-log-group"
_RUNTIME = "python3.14"
_MEMORY_MIB = 512
_TIMEOUT_S = 300
"""Time for one batch of answers; the providers allow 900 s."""
_EXISTS = ("ResourceConflictException",)
_NOT_FOUND = ("ResourceNotFoundException",)


def function_name(run: str, platform: PlatformParameters) -> str:
    """Return the name of a run's function.

    The role of Bedrock may call functions of the environment's prefix and `-grader-`. HyperPod
    calls a function for Amazon Nova only if its name contains `SageMaker`.
    """
    digest = hashlib.sha256(run.encode()).hexdigest()[:12]
    return f"{platform.environment.prefix}-grader-SageMaker-{digest}"


def function_request(
    submission: Submission, package: GraderPackage, platform: PlatformParameters
) -> dict[str, Any]:
    """Return the CreateFunction request of a run's grader.

    Args:
        submission: The run.
        package: Code of the function.
        platform: Parameters of the environment.
    """
    return {
        "FunctionName": function_name(submission.run, platform),
        "Description": f"Scores answers for {submission.run}",
        "Runtime": _RUNTIME,
        "Architectures": ["arm64"],
        "Role": platform[ROLE],
        "Handler": HANDLER,
        "Code": {"ZipFile": package.archive},
        "Timeout": _TIMEOUT_S,
        "MemorySize": _MEMORY_MIB,
        "LoggingConfig": {"LogFormat": "JSON", "LogGroup": platform[LOG_GROUP]},
        "Tags": {tag["Key"]: tag["Value"] for tag in job_tags(submission, platform)},
    }


def deploy_grader(
    account: AwsSession,
    submission: Submission,
    package: GraderPackage,
    platform: PlatformParameters,
) -> str:
    """Create a run's function, or update the one that an earlier attempt created.

    Args:
        account: Session of the environment's account.
        submission: The run.
        package: Code of the function.
        platform: Parameters of the environment.

    Returns:
        ARN of the function, once it can be called.

    Raises:
        LaunchError: It cannot be created.
    """
    request = function_request(submission, package, platform)
    name, client = request["FunctionName"], account.client("lambda")
    with (
        explain_aws_errors(f"creating the function {name}"),
        accept_existing(lambda: _find(account, name), _EXISTS),
    ):
        client.create_function(**request)
    with explain_aws_errors(f"waiting for the function {name}"):
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        configuration = client.get_function(FunctionName=name)["Configuration"]
        if configuration["CodeSha256"] != package.sha256:
            client.update_function_code(FunctionName=name, ZipFile=package.archive)
            client.get_waiter("function_updated_v2").wait(FunctionName=name)
        return str(configuration["FunctionArn"])


def _find(account: AwsSession, name: str) -> Mapping[str, Any] | None:
    with explain_aws_errors(f"describing the function {name}", ignore=_NOT_FOUND):
        answer: Mapping[str, Any] = account.client("lambda").get_function(FunctionName=name)
        return answer
    return None


def delete_grader(account: AwsSession, run: str, platform: PlatformParameters) -> None:
    """Delete a run's function, if it has one.

    Args:
        account: Session of the environment's account.
        run: Name of the run.
        platform: Parameters of the environment.

    Raises:
        LaunchError: It cannot be deleted.
    """
    name = function_name(run, platform)
    with explain_aws_errors(f"deleting the function {name}", ignore=_NOT_FOUND):
        account.client("lambda").delete_function(FunctionName=name)
