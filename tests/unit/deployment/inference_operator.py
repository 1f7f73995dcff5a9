"""Cluster with AWS's inference operator, as kubectl shows it; objects are validated as there."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import yaml

from deployment.hyperpod.manifest import KIND
from emulator.kubernetes.inference_schema import schema_problems
from launch.eks.kubectl import Kubectl
from launch.errors import LaunchError


class OperatorKubectl(Kubectl):
    """Client of a cluster in memory, whose operator makes a step each time an object is read.

    Attributes:
        objects: Objects by name.
        commands: Commands that were run.
        installed: Whether the operator is.
        allowed: What the caller may do.
        fails: Returns the reason for which an object does not start; None if it does.
    """

    def __init__(self) -> None:
        super().__init__("")
        self.objects: dict[str, dict[str, Any]] = {}
        self.commands: list[tuple[str, ...]] = []
        self.installed = True
        self.allowed = {"get", "patch", "delete"}
        self.fails: Callable[[dict[str, Any]], str | None] = lambda item: None

    def in_namespace(self, namespace: str) -> Any:
        self.namespace = namespace
        return self

    def run(self, *arguments: str, stdin: str = "") -> str:
        self.commands.append(arguments)
        verb = arguments[0]
        if verb == "api-resources":
            return KIND if self.installed else ""
        if verb == "auth":
            if arguments[2] not in self.allowed:
                raise LaunchError("kubectl auth: the answer is no")
            return "yes"
        if verb == "apply":
            for item in yaml.safe_load_all(stdin):
                self._apply(item)
            return ""
        if verb == "delete":
            if arguments[2] in self.objects:
                self.objects[arguments[2]]["status"] = {"state": "DeletionPending"}
            return ""
        if "--ignore-not-found" in arguments:
            return self._one(arguments[2])
        return json.dumps({"items": list(self.objects.values())})

    def _one(self, name: str) -> str:
        item = self.objects.get(name)
        if item is None:
            return ""
        shown = json.dumps(item)
        self._step(name, item)
        return shown

    def _apply(self, item: dict[str, Any]) -> None:
        if found := schema_problems(item["spec"]):
            raise LaunchError(f"kubectl apply: is invalid: {'; '.join(sorted(found))}")
        name = item["metadata"]["name"]
        old = self.objects.get(name)
        new = copy.deepcopy(item)
        generation = old["metadata"]["generation"] if old else 0
        changed = old is None or old["spec"] != new["spec"]
        new["metadata"] |= {"generation": generation + changed, "uid": "u-1"}
        # The state of the content before stays until the operator sees the change.
        new["status"] = old["status"] if old else {}
        self.objects[name] = new

    def _step(self, name: str, item: dict[str, Any]) -> None:
        status, generation = item["status"], item["metadata"]["generation"]
        state = status.get("state")
        if state == "DeletionPending":
            status["state"] = "DeletionInProgress"
        elif state == "DeletionInProgress":
            del self.objects[name]
        elif status.get("observedGeneration") != generation:
            item["status"] = {"state": "DeploymentInProgress", "observedGeneration": generation}
        elif reason := self.fails(item):
            condition = {"type": "Failed", "message": reason}
            item["status"] = {**status, "state": "DeploymentFailed", "conditions": [condition]}
        elif state == "DeploymentInProgress":
            item["status"] = {
                **status,
                "state": "DeploymentComplete",
                "endpoints": {"sagemaker": {"state": "CreationInProgress"}},
            }
        elif state == "DeploymentComplete":
            replicas = {"status": {"readyReplicas": item["spec"]["replicas"]}}
            endpoints = {"sagemaker": {"state": "CreationCompleted"}}
            item["status"] = {**status, "endpoints": endpoints, "deploymentStatus": replicas}
