"""AWS's inference operator: pods and a SageMaker endpoint of each `InferenceEndpointConfig`.

It starts new pods before it ends old ones, reports a failure in the status of the object, and
restores nothing.
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-model-deployment.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emulator.clock import Clock
from emulator.kubernetes.objects import CustomObjects, Item
from emulator.request_validation import RequestRejected

Call = Callable[[str, dict[str, Any]], Mapping[str, Any]]
"""Executes an operation of SageMaker."""
_PERIOD_S = 10.0
_VARIANT = "AllTraffic"


class InferenceOperator:
    """Operator of the objects of a cluster.

    Args:
        objects: The objects.
        call: Executes an operation of SageMaker.
        clock: Clock of the cluster.
        role: Returns the ARN of the role of endpoints.

    Attributes:
        failed_starts: Reasons for which the next contents do not start.
    """

    def __init__(self, objects: CustomObjects, call: Call, clock: Clock, role: Callable[[], str]):
        self._objects, self._call, self._clock, self._role = objects, call, clock, role
        self.failed_starts: list[str] = []
        objects.observers.append(self._schedule)

    def _schedule(self, namespace: str, name: str) -> None:
        self._clock.call_later(_PERIOD_S, lambda: self._reconcile(namespace, name))

    def _reconcile(self, namespace: str, name: str) -> None:
        """Make one step towards the content of an object, and come back until it is reached."""
        item = self._objects.get(namespace, name)
        if item is None:
            return
        if "deletionTimestamp" in item["metadata"]:
            self._remove(item)
            return
        status = self._start(item) if _is_new(item) else self._progress(item)
        self._objects.set_status(namespace, name, status)
        if status["state"] == "DeploymentInProgress" or _is_pending(status):
            self._schedule(namespace, name)

    def _start(self, item: Item) -> Item:
        """Start the pods of new content, and return the status."""
        status = {"observedGeneration": item["metadata"]["generation"]}
        if self.failed_starts:
            return _failed(status, self.failed_starts.pop(0))
        spec = item["spec"]
        endpoint, model = spec["endpointName"], spec["modelName"]
        try:
            self._ensure("DescribeModel", {"ModelName": model}, "CreateModel", self._model(spec))
            config = {
                "EndpointConfigName": model,
                "ProductionVariants": [_variant(spec)],
                "Tags": _tags(spec),
            }
            named = {"EndpointConfigName": model}
            self._ensure("DescribeEndpointConfig", named, "CreateEndpointConfig", config)
            running = self._find("DescribeEndpoint", {"EndpointName": endpoint})
            change = {"EndpointName": endpoint, **named}
            if running is None:
                self._call("CreateEndpoint", {**change, "Tags": _tags(spec)})
            elif running["EndpointConfigName"] != model:
                self._call("UpdateEndpoint", change)
        except RequestRejected as rejection:
            return _failed(status, str(rejection))
        return {**status, "state": "DeploymentInProgress"}

    def _progress(self, item: Item) -> Item:
        """Return the status by that of the endpoint."""
        status: Item = item["status"]
        spec = item["spec"]
        described = self._find("DescribeEndpoint", {"EndpointName": spec["endpointName"]}) or {}
        state = described.get("EndpointStatus")
        if state == "Failed":
            return _failed(status, described["FailureReason"])
        if state != "InService":
            return status
        if described["EndpointConfigName"] != spec["modelName"]:
            return _failed(status, described.get("FailureReason") or "the pods do not get ready")
        if status["state"] == "DeploymentInProgress":
            pending = {"sagemaker": {"state": "CreationInProgress"}}
            return {**status, "state": "DeploymentComplete", "endpoints": pending}
        self._remove_unused(item)
        return {
            **status,
            "endpoints": {"sagemaker": {"state": "CreationCompleted"}},
            "deploymentStatus": {"status": {"readyReplicas": spec["replicas"]}},
        }

    def _remove(self, item: Item) -> None:
        """Remove the endpoint, then its configurations and models, then the object."""
        metadata, name = item["metadata"], item["spec"]["endpointName"]
        namespace, own = metadata["namespace"], metadata["name"]
        described = self._find("DescribeEndpoint", {"EndpointName": name})
        if described is None:
            self._remove_unused(item, "")
            self._objects.finalize(namespace, own)
            return
        self._objects.set_status(namespace, own, {"state": "DeletionInProgress"})
        if described["EndpointStatus"] != "Deleting":
            self._call("DeleteEndpoint", {"EndpointName": name})
        self._schedule(namespace, own)

    def _remove_unused(self, item: Item, used: str | None = None) -> None:
        """Remove models and configurations of other contents of an object.

        Args:
            item: The object.
            used: Name that is used; that of the object if None.
        """
        keep = item["spec"]["modelName"] if used is None else used
        prefix = item["spec"]["endpointName"]
        for listing, member, key, delete in (
            (
                "ListEndpointConfigs",
                "EndpointConfigs",
                "EndpointConfigName",
                "DeleteEndpointConfig",
            ),
            ("ListModels", "Models", "ModelName", "DeleteModel"),
        ):
            names = [one[key] for one in self._call(listing, {"NameContains": prefix})[member]]
            for name in names:
                if name != keep:
                    self._call(delete, {key: name})

    def _model(self, spec: Item) -> Item:
        source, worker = spec["modelSourceConfig"], spec["worker"]
        address = f"s3://{source['s3Storage']['bucketName']}/{source['modelLocation']}/"
        files = {"S3Uri": address, "S3DataType": "S3Prefix", "CompressionType": "None"}
        variables = {one["name"]: one["value"] for one in worker["environmentVariables"]}
        return {
            "ModelName": spec["modelName"],
            "ExecutionRoleArn": self._role(),
            "PrimaryContainer": {
                "Image": worker["image"],
                "ModelDataSource": {"S3DataSource": files},
                "Environment": variables,
            },
        }

    def _ensure(self, describe: str, named: Item, create: str, request: Item) -> None:
        if self._find(describe, named) is None:
            self._call(create, request)

    def _find(self, describe: str, named: Item) -> Mapping[str, Any] | None:
        try:
            return self._call(describe, named)
        except RequestRejected:
            return None


def _is_new(item: Item) -> bool:
    return bool(item["status"].get("observedGeneration") != item["metadata"]["generation"])


def _is_pending(status: Item) -> bool:
    endpoint = (status.get("endpoints") or {}).get("sagemaker") or {}
    return str(endpoint.get("state")) == "CreationInProgress"


def _failed(status: Item, reason: str) -> Item:
    conditions = [{"type": "Failed", "status": "True", "message": reason}]
    kept = {key: value for key, value in status.items() if key == "observedGeneration"}
    return {**kept, "state": "DeploymentFailed", "conditions": conditions}


def _variant(spec: Item) -> Item:
    return {
        "VariantName": _VARIANT,
        "ModelName": spec["modelName"],
        "InstanceType": spec["instanceType"],
        "InitialInstanceCount": spec["replicas"],
    }


def _tags(spec: Item) -> list[dict[str, str]]:
    return [{"Key": tag["name"], "Value": tag["value"]} for tag in spec.get("tags", ())]
