"""Deployment to a HyperPod cluster with EKS, by AWS's inference operator.

The operator makes pods, a load balancer and a SageMaker endpoint of one Kubernetes object, and
replaces pods one by one when the object changes. It restores nothing by itself: if another version
does not start, the object of the version before is applied again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError, RemovedMeanwhileError, RolledBackError
from deployment.hyperpod.checks import hyperpod_problems
from deployment.hyperpod.manifest import (
    KIND,
    START_TIMEOUT_S,
    inference_endpoint,
    kept_keys,
    tags_of,
)
from deployment.quote import DeploymentQuote, instance_quote
from deployment.record import (
    Deployment,
    DeploymentState,
    end_tags,
    end_words,
    kept_by_tags,
    model_of_tags,
)
from deployment.sagemaker.invoke import invoke_endpoint
from deployment.targets.base import DeploymentRequest, require
from launch.eks.api_server import kubectl_of
from launch.eks.cluster_objects import FIELD_MANAGER, LABELS
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import to_yaml
from launch.eks.namespaces import published_namespaces
from launch.errors import LaunchError
from training.console import say
from training.errors import Problem

_STATES: Mapping[str, DeploymentState] = {
    "DeploymentComplete": "deployed",
    "DeploymentFailed": "failed",
    "DeletionPending": "undeploying",
    "DeletionInProgress": "undeploying",
    "DeletionFailed": "failed",
    "DeletionComplete": "not deployed",
}
_SELECTOR = ",".join(f"{key}={value}" for key, value in LABELS.items())
_DELETE_TIMEOUT_S = 1800.0


def connect(account: DeploymentAccount) -> HyperPodTarget:
    """Return the target in an account."""
    return HyperPodTarget(account)


class HyperPodTarget:
    """Deployments on the environment's HyperPod cluster.

    Args:
        account: The account.
        kubectl: Client of the cluster, without a namespace; that of the environment's if None.
    """

    kind = "hyperpod"
    form: str | None = None

    def __init__(self, account: DeploymentAccount, kubectl: Kubectl | None = None):
        self.account = account
        self._given = kubectl

    @cached_property
    def kubectl(self) -> Kubectl:
        """Client of the namespace of deployments.

        Raises:
            LaunchError: The environment has no EKS cluster, or kubectl talks to another one.
        """
        cluster = self._given or kubectl_of(self.account.session, self.account.platform)
        namespaces = published_namespaces(self.account.platform)
        namespace = os.environ.get("EKS_NAMESPACE") or (namespaces[0] if namespaces else "default")
        return cluster.in_namespace(namespace)

    @property
    def _has_cluster(self) -> bool:
        """True if the environment has a HyperPod cluster with EKS."""
        return self._given is not None or self.account.platform.get("hyperpod/eks") is not None

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        try:
            kubectl = self.kubectl
        except LaunchError as error:
            yield Problem("--to", str(error), self.kind)
            return
        yield from hyperpod_problems(self.account, request, kubectl)

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return the price of the nodes that the deployment occupies."""
        spec = request.spec
        assert spec.instance is not None
        least, most = spec.copy_limits
        note = "these nodes belong to the cluster: those that it already has cost nothing more"
        return instance_quote(
            spec.instance,
            (spec.first_copies, least, most),
            end_words(end_tags(spec.end)),
            region=self.account.environment.region,
            notes=(note,),
        )

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        if not self._has_cluster:
            return None
        item = self.kubectl.find(KIND, name)
        return None if item is None else self._deployment(item)

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment; none if it has no cluster with EKS."""
        if not self._has_cluster:
            return []
        text = self.kubectl.run("get", KIND, f"--selector={_SELECTOR}", "--output=json")
        return [self._deployment(item) for item in json.loads(text)["items"]]

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Make a deployment, or continue one that was interrupted, and wait until it serves.

        Raises:
            DeployModelError: It failed, with the operator's reason, or another version serves
                under this name.
        """
        name = request.spec.name
        existing = self.kubectl.find(KIND, name)
        if existing is not None and _runs(existing) != self._wanted(request):
            raise DeployModelError(
                f"{name} exists with {model_of_tags(tags_of(existing))}. To serve another version: "
                f"temper swap; to remove it: temper undeploy"
            )
        self._apply(inference_endpoint(self.account, request, self.kubectl.namespace))
        self._wait(request)
        if request.verify is not None:
            request.verify()
        return require(self, name)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Serve another version behind the same name, and wait until it does.

        Raises:
            RolledBackError: It does not start, or does not answer as it should, and the version
                before was restored.
            DeployModelError: There is no such deployment.
        """
        name = request.spec.name
        before = self.kubectl.find(KIND, name)
        if before is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        self._apply(inference_endpoint(self.account, request, self.kubectl.namespace))
        try:
            self._wait(request)
            if request.verify is not None:
                request.verify()
        except DeployModelError as error:
            if _runs(before) == self._wanted(request):
                raise
            version = model_of_tags(tags_of(before))
            say(f"{request.model.id} does not serve as it should: {version} is restored")
            self._apply(_applied(before))
            self._settled(name)
            raise RolledBackError(f"{error}. {version} serves") from None
        return require(self, name)

    def undeploy(self, name: str) -> None:
        """Remove a deployment with everything that was made for it; a repetition is no error.

        Raises:
            DeployModelError: The operator could not remove all of it.
        """
        if not self._has_cluster:
            return
        self.kubectl.run("delete", KIND, name, "--ignore-not-found", "--wait=false")

        def ended(item: Any) -> bool:
            return item is None or _state(item) == "DeletionFailed"

        item = self.account.polling.until(
            lambda: self.kubectl.find(KIND, name),
            ended,
            what=f"the removal of {name}",
            timeout_s=_DELETE_TIMEOUT_S,
        )
        if item is not None:
            raise DeployModelError(f"{name} was not removed completely: {_reason(item)}")

    def kept(self, name: str) -> dict[str, Any]:
        """Return keys of the specification that a deployment was made with."""
        item = self.kubectl.find(KIND, name)
        return {} if item is None else {**kept_by_tags(tags_of(item)), **kept_keys(item["spec"])}

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of a deployment to a body of OpenAI's protocol."""
        return invoke_endpoint(self.account, self.account.resource_name(name), body)

    def _apply(self, item: Mapping[str, Any]) -> None:
        command = ("apply", "--server-side", "--force-conflicts")
        self.kubectl.run(
            *command, f"--field-manager={FIELD_MANAGER}", "-f", "-", stdin=to_yaml([dict(item)])
        )

    def _wait(self, request: DeploymentRequest) -> None:
        """Wait until a version serves, and compare what runs with what was asked for.

        Raises:
            DeployModelError: It failed, or something else was applied meanwhile.
        """
        item = self._settled(request.spec.name)
        if _state(item) == "DeploymentFailed":
            raise DeployModelError(f"{request.model.id} does not start: {_reason(item)}")
        if _runs(item) != self._wanted(request):
            raise DeployModelError(
                f"{request.spec.name} runs {_runs(item)}, not {self._wanted(request)}: someone "
                f"else changed it meanwhile"
            )

    def _settled(self, name: str) -> dict[str, Any]:
        """Return the object when the operator has finished with its latest content.

        Raises:
            RemovedMeanwhileError: It was removed meanwhile.
        """
        item = self.account.polling.until(
            lambda: self.kubectl.find(KIND, name),
            _is_settled,
            what=f"the deployment of {name}",
            timeout_s=START_TIMEOUT_S + 300,
        )
        if item is None:
            raise RemovedMeanwhileError(name)
        return item

    def _wanted(self, request: DeploymentRequest) -> str:
        item = inference_endpoint(self.account, request, self.kubectl.namespace)
        return _runs(item)

    def _deployment(self, item: dict[str, Any]) -> Deployment:
        tags, status = tags_of(item), item.get("status") or {}
        state = _STATES.get(_state(item), "deploying")
        copies = (status.get("deploymentStatus") or {}).get("status", {}).get("readyReplicas", 0)
        name = str(item["metadata"]["name"])
        return Deployment(
            name,
            self.kind,
            state,
            model_of_tags(tags),
            self.account.resource_name(name),
            _reason(item) if state == "failed" else "",
            tags,
            {str(item["spec"]["instanceType"]): copies} if copies else {},
        )


def _runs(item: Mapping[str, Any]) -> str:
    """Return the address of the model that an object names."""
    source = item["spec"]["modelSourceConfig"]
    return f"s3://{source['s3Storage']['bucketName']}/{source['modelLocation']}"


def _state(item: Mapping[str, Any]) -> str:
    return str((item.get("status") or {}).get("state") or "")


def _is_settled(item: Mapping[str, Any] | None) -> bool:
    """Return whether the operator has finished with the latest content of an object.

    Right after a change, the state is still that of the content before.
    """
    if item is None:
        return True
    status = item.get("status") or {}
    # Older versions of the operator do not tell which content they have finished with.
    observed = status.get("observedGeneration")
    if observed is not None and int(observed) < int(item["metadata"]["generation"]):
        return False
    if _state(item) == "DeploymentFailed":
        return True
    endpoint = ((status.get("endpoints") or {}).get("sagemaker") or {}).get("state")
    pending = str(endpoint or "").endswith(("InProgress", "Pending", "Creating", "Updating"))
    return _state(item) == "DeploymentComplete" and not pending


def _reason(item: Mapping[str, Any]) -> str:
    """Return what the operator says about a failure."""
    status = item.get("status") or {}
    conditions = [
        " ".join(str(condition.get("message", "")).split())
        for condition in status.get("conditions") or ()
        if condition.get("message")
    ]
    message = (status.get("deploymentStatus") or {}).get("message")
    return "; ".join(dict.fromkeys([*conditions, *([str(message)] if message else [])])) or (
        "the operator gives no reason; kubectl describe shows the events"
    )


def _applied(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as it can be applied again: without what the cluster added."""
    metadata = item["metadata"]
    chosen = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations")}
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "metadata": chosen,
        "spec": item["spec"],
    }
