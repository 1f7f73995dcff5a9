"""Manifests for HyperPod on EKS: golden files, the schemas of both kinds, and invariants.

`python -m tests.unit.launch.test_manifests` rewrites the golden files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog.run_metrics import metric_namespace
from containers.entrypoint.run_metrics import CREATOR, JOB, NAMESPACE
from launch.eks.manifests import KubernetesSettings, PodSpec, manifests, object_name, to_yaml
from launch.errors import LaunchError
from launch.targets.eks import read_status
from training.config.runtime import Resources

GOLDEN = Path(__file__).with_name("manifests")
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/gpu@sha256:{'a' * 64}"
CASES: dict[str, dict[str, Any]] = {
    "two-p4d": {"instance": "ml.p4d.24xlarge", "count": 2, "max_runtime": "6h"},
    "four-trn2": {"instance": "ml.trn2.48xlarge", "count": 4, "partition": "research"},
    "one-g5": {"instance": "ml.g5.12xlarge", "retries": 5},
}


def build(name: str) -> list[dict[str, Any]]:
    order = PodSpec(
        name=f"support-lora-20261101-120000-ab12-{name}",
        run="support-lora/20261101-120000-ab12",
        job="name: support-lora\n",
        image=IMAGE,
        environment={"HF_HUB_OFFLINE": "1"},
    )
    return manifests(order, Resources.model_validate(CASES[name]), KubernetesSettings())


def test_a_run_on_the_platforms_cluster_publishes_its_metrics() -> None:
    """The entry point of the image reads the variables; on another cluster there are none."""
    order = PodSpec("tiny-1", "tiny/1", "name: tiny\n", IMAGE, creator="CORP\\anna")
    cluster = KubernetesSettings(
        metric_namespace=metric_namespace("temper-dev"), region="us-east-1"
    )
    resources = Resources.model_validate(CASES["one-g5"])

    def variables(settings: KubernetesSettings) -> dict[str, str]:
        [_, job] = manifests(order, resources, settings)
        pod = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
        [container] = pod["containers"]
        return {entry["name"]: entry["value"] for entry in container["env"]}

    published = variables(cluster)
    assert (published[NAMESPACE], published[JOB]) == ("Temper/temper-dev", "tiny-1")
    assert published[CREATOR] == "CORP/anna"
    assert published["AWS_REGION"] == "us-east-1"
    assert not {NAMESPACE, JOB} & variables(KubernetesSettings()).keys()


def pod_of(name: str) -> dict[str, Any]:
    spec = build(name)[1]["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.mark.parametrize("name", CASES)
def test_matches_golden_file(name: str) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text()
    assert to_yaml(build(name)) == golden, "python -m tests.unit.launch.test_manifests"


@pytest.mark.parametrize("name", CASES)
def test_valid_kubernetes_manifests(name: str) -> None:
    import kubernetes_validate

    job_file, job = build(name)
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(job_file, version, strict=True)
    template = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**pod["metadata"], "name": "one"}
    kubernetes_validate.validate(pod, version, strict=True)


def test_invalid_manifest_is_detected() -> None:
    import kubernetes_validate

    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": pod_of("one-g5")}
    pod["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", CASES)
def test_training_operator_knows_every_key(name: str) -> None:
    """A round trip through the operator's own types loses nothing."""
    job = build(name)[1]
    assert through_the_operator(job) == job
    job["spec"]["runPolicy"]["cleanPods"] = "All"
    assert through_the_operator(job) != job


def through_the_operator(job: dict[str, Any]) -> Any:
    import json

    from kubeflow.training import models
    from kubernetes.client import ApiClient

    class Answer:
        data = json.dumps(job)

    class Client(ApiClient):
        def _ApiClient__deserialize(self, data: Any, klass: Any) -> Any:  # noqa: N802
            kind = getattr(models, klass, klass) if isinstance(klass, str) else klass
            return super()._ApiClient__deserialize(data, kind)  # type: ignore[misc]

    client = Client()
    read = client.deserialize(Answer(), models.KubeflowOrgV1PyTorchJob)
    return client.sanitize_for_serialization(read)


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("two-p4d", {"nvidia.com/gpu": "8", "vpc.amazonaws.com/efa": "4"}),
        ("four-trn2", {"aws.amazon.com/neuron": "16", "vpc.amazonaws.com/efa": "16"}),
        ("one-g5", {"nvidia.com/gpu": "4"}),
    ],
)
def test_pod_requests_all_devices(name: str, devices: dict[str, str]) -> None:
    (container,) = pod_of(name)["containers"]
    asked = container["resources"]["limits"]
    assert container["resources"]["requests"] == asked
    assert {key: value for key, value in asked.items() if "." in key} == devices
    assert ("hugepages-2Mi" in asked) is ("vpc.amazonaws.com/efa" in asked)


@pytest.mark.parametrize("name", CASES)
def test_healthy_nodes_and_auto_resume(name: str) -> None:
    job, pod = build(name)[1], pod_of(name)
    assert pod["nodeSelector"]["sagemaker.amazonaws.com/node-health-status"] == "Schedulable"
    assert pod["nodeSelector"]["node.kubernetes.io/instance-type"] == CASES[name]["instance"]
    notes = job["metadata"]["annotations"]
    assert notes["sagemaker.amazonaws.com/enable-job-auto-resume"] == "true"
    assert int(notes["sagemaker.amazonaws.com/job-max-retry-count"]) >= 1
    assert job["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] == "OnFailure"
    assert pod["terminationGracePeriodSeconds"] >= 120, "there is time for a checkpoint"


@pytest.mark.parametrize(
    ("attempt", "name"),
    [
        ("support-lora-20261101-120000-ab12", "support-lora-20261101-120000-ab12"),
        ("Support-20261101-120000-ab12-2", "support-20261101-120000-ab12-2"),
        ("x" * 41 + "-20261101-120000-ab12", "x" * 29 + "-20261101-120000-ab12"),
        ("1st-20261101-120000-ab12", "t-1st-20261101-120000-ab12"),
    ],
)
def test_legal_object_names(attempt: str, name: str) -> None:
    assert object_name(attempt) == name
    assert len(f"{name}-worker-99999") <= 63


def test_instance_missing_from_catalog() -> None:
    order = PodSpec("a", "a/b", "", IMAGE)
    with pytest.raises(LaunchError, match=r"ml\.p9\.48xlarge is not in the catalog"):
        manifests(
            order, Resources.model_validate({"instance": "ml.p9.48xlarge"}), KubernetesSettings()
        )


@pytest.mark.parametrize(
    ("conditions", "suspend", "state"),
    [
        ([], False, "training"),
        (["Created", "Running"], False, "training"),
        (["Created", "Running", "Restarting"], False, "training"),
        (["Created", "Running"], True, "stopping"),
        (["Created", "Suspended"], True, "stopped"),
        (["Created", "Running", "Failed"], False, "training failed"),
        (["Created", "Succeeded"], False, "not deployed"),
    ],
)
def test_status_of_conditions(conditions: list[str], suspend: bool, state: str) -> None:
    found = {
        "spec": {"runPolicy": {"suspend": suspend}},
        "status": {
            "conditions": [{"type": kind, "status": "True", "message": "m"} for kind in conditions]
        },
    }
    assert read_status(found).state == state


def write_golden_files() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.yaml").write_text(to_yaml(build(name)))
        assert list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text())) == build(name)


if __name__ == "__main__":
    write_golden_files()
