"""Search for what remains in an account after all deployments were removed."""

from __future__ import annotations

from typing import Any

from emulator.environment import EmulatedEnvironment

_SAGEMAKER = (
    ("list_endpoints", "Endpoints", "EndpointName"),
    ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    ("list_models", "Models", "ModelName"),
    ("list_inference_components", "InferenceComponents", "InferenceComponentName"),
)
_BEDROCK = (
    ("list_imported_models", "modelSummaries", "modelName"),
    ("list_custom_models", "modelSummaries", "modelName"),
    ("list_custom_model_deployments", "modelDeploymentSummaries", "customModelDeploymentName"),
    ("list_provisioned_model_throughputs", "provisionedModelSummaries", "provisionedModelName"),
)


def leftovers(environment: EmulatedEnvironment) -> list[str]:
    """Return the names of what deployments have left in SageMaker, Bedrock and CloudWatch."""
    found = []
    for service, listings in (("sagemaker", _SAGEMAKER), ("bedrock", _BEDROCK)):
        client = environment.client(service)
        for operation, member, name in listings:
            answer: dict[str, Any] = getattr(client, operation)()
            found += [str(one[name]) for one in answer[member]]
    jobs = environment.client("sagemaker").list_transform_jobs(StatusEquals="InProgress")
    found += [str(job["TransformJobName"]) for job in jobs["TransformJobSummaries"]]
    prefix = f"{environment.environment.prefix}-rehearsed"
    alarms = environment.client("cloudwatch").describe_alarms(AlarmNamePrefix=prefix)
    return [*found, *(str(alarm["AlarmName"]) for alarm in alarms["MetricAlarms"])]
