"""Emulated cluster: what kubectl sees of objects, and the states that the operator gives them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.clock import FakeClock
from emulator.kubernetes.access_review import reviewed_verb
from emulator.kubernetes.api_server import KubernetesApiServer
from emulator.kubernetes.cluster import NAMESPACE, RESOURCE, why_no_cluster, write_kubeconfig
from emulator.kubernetes.inference_operator import InferenceOperator
from emulator.kubernetes.inference_schema import schema_problems
from emulator.kubernetes.objects import CustomObjects
from launch.eks.kubectl import Kubectl
from launch.errors import LaunchError
from tests.unit.emulator.conftest import IMAGE, ROLE, HostedAccount

KIND = f"{RESOURCE.plural}.{RESOURCE.group}"
needs_kubectl = pytest.mark.skipif(why_no_cluster() != "", reason=why_no_cluster())


def item(model: str, **changes: Any) -> dict[str, Any]:
    """Return an object that serves a model of the bucket `models`."""
    spec = {
        "modelName": f"support-{model}",
        "endpointName": "support",
        "instanceType": "ml.g5.xlarge",
        "modelSourceConfig": {
            "modelSourceType": "s3",
            "s3Storage": {"bucketName": "models", "region": "us-east-1"},
            "modelLocation": model,
        },
        "replicas": 1,
        "worker": {
            "image": IMAGE,
            "modelInvocationPort": {"containerPort": 8080, "name": "http"},
            "modelVolumeMount": {"name": "weights", "mountPath": "/opt/ml/model"},
            "resources": {"requests": {}, "limits": {}},
            "environmentVariables": [],
        },
        **changes,
    }
    metadata = {"name": "support", "namespace": NAMESPACE, "labels": {"team": "shop"}}
    version = f"{RESOURCE.group}/{RESOURCE.version}"
    return {"apiVersion": version, "kind": RESOURCE.kind, "metadata": metadata, "spec": spec}


def objects_at(clock: FakeClock) -> CustomObjects:
    return CustomObjects(schema_problems, lambda: f"2026-11-29T00:00:{clock.now() % 60:02.0f}Z")


@pytest.fixture
def server() -> Iterator[KubernetesApiServer]:
    with KubernetesApiServer(RESOURCE, objects_at(FakeClock())) as started:
        yield started


@pytest.fixture
def kubectl(server: KubernetesApiServer, tmp_path: Path) -> Kubectl:
    path = tmp_path / "config"
    context = write_kubeconfig(path, server.url, "a.eks.amazonaws.com")
    return Kubectl(NAMESPACE, context, str(path))


def apply(kubectl: Kubectl, wanted: dict[str, Any]) -> str:
    command = ("apply", "--server-side", "--force-conflicts", "--field-manager=temper", "-f", "-")
    return kubectl.run(*command, stdin=yaml.safe_dump(wanted))


@needs_kubectl
def test_kubectl_applies_finds_lists_and_deletes_objects(
    server: KubernetesApiServer, kubectl: Kubectl
) -> None:
    assert kubectl.server() == "a.eks.amazonaws.com"
    assert kubectl.find(KIND, "support") is None
    assert "serverside-applied" in apply(kubectl, item("a"))
    found = kubectl.find(KIND, "support")
    assert found is not None
    assert found["metadata"]["generation"] == 1
    assert found["spec"]["modelName"] == "support-a"
    assert "support" in kubectl.run("get", KIND, "--selector=team=shop", "--output=name")
    assert kubectl.run("get", KIND, "--selector=team=other", "--output=name") == ""
    kubectl.run("delete", KIND, "support", "--wait=false")
    deleted = kubectl.find(KIND, "support")
    assert deleted is not None, "a finalizer keeps it"
    assert "deletionTimestamp" in deleted["metadata"]
    server.objects.finalize(NAMESPACE, "support")
    kubectl.run("delete", KIND, "support", "--ignore-not-found", "--wait=false")


@needs_kubectl
def test_kubectl_is_told_what_an_object_lacks_and_what_the_caller_may_not_do(
    server: KubernetesApiServer, kubectl: Kubectl
) -> None:
    with pytest.raises(LaunchError, match=r"is invalid: spec\.image is unknown"):
        apply(kubectl, item("a", image="x"))
    assert kubectl.allows("patch", KIND)
    server.denied.add("delete")
    assert not kubectl.allows("delete", KIND)


def test_the_verb_of_an_access_review_is_read_from_json_and_protocol_buffers() -> None:
    attributes = b"\x0a\x04team\x12\x06delete\x1a\x05group"
    spec = b"\x0a" + bytes([len(attributes)]) + attributes
    raw = b"\x0a\x00\x12" + bytes([len(spec)]) + spec
    unknown = b"\x0a\x02\x0a\x00\x12" + bytes([len(raw)]) + raw + b"\x1a\x00"
    assert reviewed_verb(b"k8s\x00" + unknown) == "delete"
    assert reviewed_verb(b'{"spec": {"resourceAttributes": {"verb": "get"}}}') == "get"


def test_content_that_does_not_change_keeps_its_generation() -> None:
    objects = objects_at(FakeClock())
    seen: list[str] = []
    objects.observers.append(lambda _, name: seen.append(name))
    for wanted in (item("a"), item("a"), item("b")):
        last = objects.apply(NAMESPACE, "support", wanted)
    assert (last["metadata"]["generation"], len(seen)) == (2, 2)


def states(account: HostedAccount, objects: CustomObjects) -> list[str]:
    """Advance until the operator has finished, and return the states of the object by order."""
    seen: list[str] = []
    for _ in range(200):
        account.advance(5)
        status = (objects.get(NAMESPACE, "support") or {"status": {}})["status"]
        state = f"{status.get('state', '')} {status.get('endpoints', '')}".strip()
        if not seen or seen[-1] != state:
            seen.append(state)
    return seen


def test_the_operator_serves_replaces_fails_and_removes(account: HostedAccount) -> None:
    objects = objects_at(account.clock)
    operator = InferenceOperator(objects, account.emulator.call, account.clock, lambda: ROLE)
    for model in ("a", "b", "c"):
        account.put_model(model, answer=model)
    objects.apply(NAMESPACE, "support", item("a"))
    began, *_, last = states(account, objects)
    assert began == ""
    assert last == "DeploymentComplete {'sagemaker': {'state': 'CreationCompleted'}}"

    objects.apply(NAMESPACE, "support", item("b"))
    assert states(account, objects)[-1].startswith("DeploymentComplete")
    assert account.describe()["EndpointConfigName"] == "support-b"
    [model] = account.client("sagemaker").list_models()["Models"]
    assert model["ModelName"] == "support-b"

    operator.failed_starts.append("CUDA out of memory")
    objects.apply(NAMESPACE, "support", item("c"))
    assert states(account, objects)[-1] == "DeploymentFailed"
    failed = objects.get(NAMESPACE, "support")
    assert failed is not None
    assert failed["status"]["conditions"][0]["message"] == "CUDA out of memory"
    assert account.describe()["EndpointConfigName"] == "support-b", "the old pods serve"

    wanted = copy.deepcopy(item("c", instanceType="ml.p5.48xlarge"))
    account.emulator.hosting.context.faults.no_capacity = {"ml.p5.48xlarge"}
    wanted["spec"]["modelName"] = "support-c2"
    objects.apply(NAMESPACE, "support", wanted)
    assert states(account, objects)[-1] == "DeploymentFailed"

    objects.request_deletion(NAMESPACE, "support")
    states(account, objects)
    assert objects.get(NAMESPACE, "support") is None
    sagemaker = account.client("sagemaker")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
