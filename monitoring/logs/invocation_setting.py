"""Place of Bedrock's model invocation log, which is a setting of the account and Region."""

from __future__ import annotations

from deployment.account import DeploymentAccount
from launch.aws.s3 import S3Uri
from launch.aws.session import explain_aws_errors
from monitoring.errors import LogError
from monitoring.logs.copies import LogGroup

_HOW = (
    "Set `bedrock: {enabled: true, invocation_logging: true}` in the environment and deploy it; "
    "calls are logged from then on"
)


def invocation_log(account: DeploymentAccount, model: str) -> S3Uri | LogGroup:
    """Return where the calls of a model are logged: a log group if there is one, else a bucket.

    Args:
        account: Account of the deployment.
        model: ARN of what serves it.

    Raises:
        LogError: The account does not log invocations, or logs them without texts.
        LaunchError: The setting cannot be read.
    """
    name = account.environment.name
    with explain_aws_errors("reading the setting of model invocation logging"):
        answer = account.client("bedrock").get_model_invocation_logging_configuration()
    config = answer.get("loggingConfig")
    if not config:
        raise LogError(f"the account of {name} does not log invocations of Bedrock. {_HOW}")
    if not config.get("textDataDeliveryEnabled", True):
        raise LogError(
            f"the account of {name} logs invocations of Bedrock without their texts "
            f"(textDataDeliveryEnabled: false), so that no prompt can be compared. {_HOW}"
        )
    if group := config.get("cloudWatchConfig", {}).get("logGroupName"):
        return LogGroup(group, f'{{ $.modelId = "{model}" }}')
    bucket = config["s3Config"]
    prefix = bucket.get("keyPrefix", "").strip("/")
    region = account.environment.region
    # arn:PARTITION:bedrock:REGION:ACCOUNT:KIND/ID
    home = f"AWSLogs/{model.split(':')[4]}/BedrockModelInvocationLogs/{region}"
    return S3Uri(bucket["bucketName"], f"{prefix}/{home}".lstrip("/"))
