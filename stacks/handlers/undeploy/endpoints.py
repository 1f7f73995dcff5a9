"""Endpoints of SageMaker and their inference components, of which each instance hour is billed."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from .rule import FOREVER, IDLE_HOURS, STACK, UNTIL, BilledResource, CallMetric

SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")


def list_resources(sagemaker: Any, prefix: str) -> Iterator[BilledResource]:
    """Yield the endpoints whose names begin with the prefix, each after its components.

    A component without an end of its own is removed with its endpoint.

    Args:
        sagemaker: SageMaker client.
        prefix: Prefix of the environment.
    """
    for page in sagemaker.get_paginator("list_endpoints").paginate(NameContains=prefix):
        for summary in page["Endpoints"]:
            name = summary["EndpointName"]
            if not name.startswith(f"{prefix}-"):
                continue
            tags = _tags(sagemaker, summary["EndpointArn"])
            components = list(_components(sagemaker, name, covered=_has_end(tags)))
            yield from components
            variants = sagemaker.describe_endpoint(EndpointName=name).get("ProductionVariants", [])
            calls = [
                CallMetric(
                    "AWS/SageMaker",
                    "Invocations",
                    {"EndpointName": name, "VariantName": variant["VariantName"]},
                )
                for variant in variants
            ]
            calls += [call for component in components for call in component.calls]
            settled = summary["EndpointStatus"] in SETTLED
            yield BilledResource(
                "endpoint", name, summary["CreationTime"], tags, settled, tuple(calls)
            )


def _components(sagemaker: Any, endpoint: str, *, covered: bool) -> Iterator[BilledResource]:
    pages = sagemaker.get_paginator("list_inference_components").paginate(
        EndpointNameEquals=endpoint
    )
    for page in pages:
        for summary in page["InferenceComponents"]:
            name = summary["InferenceComponentName"]
            yield BilledResource(
                "component",
                name,
                summary["CreationTime"],
                _tags(sagemaker, summary["InferenceComponentArn"]),
                summary.get("InferenceComponentStatus") in SETTLED,
                (CallMetric("AWS/SageMaker", "Invocations", {"InferenceComponentName": name}),),
                covered,
            )


def _has_end(tags: Mapping[str, str]) -> bool:
    return any(tags.get(key) for key in (UNTIL, IDLE_HOURS, FOREVER))


def _tags(sagemaker: Any, arn: str) -> dict[str, str]:
    pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


class EndpointRemover:
    """Removal of endpoints and components, in the order that SageMaker requires.

    An endpoint with components cannot be deleted, nor a component with adapters. What is refused
    for that reason is left for the next run, which finds what is in the way gone.

    Args:
        sagemaker: SageMaker client.
        autoscaling: Client of Application Auto Scaling.
        cloudformation: CloudFormation client.
        prefix: Prefix of the environment.
    """

    def __init__(self, sagemaker: Any, autoscaling: Any, cloudformation: Any, prefix: str) -> None:
        self.sagemaker, self.autoscaling = sagemaker, autoscaling
        self.cloudformation, self.prefix = cloudformation, prefix

    def remove(self, resource: BilledResource) -> bool:
        """Start the removal of a resource, and return True; False if AWS refuses."""
        try:
            stack = resource.tags.get(STACK, "")
            if stack.startswith(f"{self.prefix}-serving-"):
                # A resource that is deleted behind its stack would fail the next deployment.
                self.cloudformation.delete_stack(StackName=stack)
            elif resource.kind == "component":
                self._remove_component(resource.name)
            else:
                self._remove_endpoint(resource.name)
        except ClientError as error:
            return "not find" in str(error) or "not exist" in str(error)
        return True

    def _remove_component(self, name: str) -> None:
        self._stop_scaling(f"inference-component/{name}")
        self.sagemaker.delete_inference_component(InferenceComponentName=name)

    def _remove_endpoint(self, name: str) -> None:
        endpoint = self.sagemaker.describe_endpoint(EndpointName=name)
        waiting = False
        for component in list(_components(self.sagemaker, name, covered=True)):
            waiting = True
            if component.removable:
                self.remove(component)
        if waiting:
            return
        for variant in endpoint.get("ProductionVariants", []):
            self._stop_scaling(f"endpoint/{name}/variant/{variant['VariantName']}")
        self.sagemaker.delete_endpoint(EndpointName=name)
        self._remove_configuration(endpoint.get("EndpointConfigName", ""))

    def _remove_configuration(self, name: str) -> None:
        """Delete a configuration and its models, which cost nothing, if they are ours."""
        if not name.startswith(f"{self.prefix}-"):
            return
        configuration = self.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
        variants = configuration["ProductionVariants"]
        for variant in [*variants, *configuration.get("ShadowProductionVariants", [])]:
            if variant.get("ModelName", "").startswith(f"{self.prefix}-"):
                self.sagemaker.delete_model(ModelName=variant["ModelName"])

    def _stop_scaling(self, resource_id: str) -> None:
        answer = self.autoscaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource_id]
        )
        for target in answer["ScalableTargets"]:
            self.autoscaling.deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=resource_id,
                ScalableDimension=target["ScalableDimension"],
            )
