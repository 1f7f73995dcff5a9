"""Rights of an engineer on a real API server, before and after `temper cluster-setup`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from launch.eks.api_server import EksEndpoint, kubeconfig
from launch.eks.cluster_objects import (
    PERMISSIONS,
    cluster_objects,
)
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import PodSpec, manifests, to_yaml
from launch.eks.namespaces import settings_of_job
from launch.eks.setup import apply_objects, has_kind, require_cluster
from launch.errors import LaunchError
from tests.launch.api_server import SERVER_NAME, ApiServer, missing_binary, run_api_server
from tests.unit.launch.test_cluster_objects import HYPERPOD, SETUP
from training.config.runtime import Resources

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_binary()), reason=missing_binary() or "never"),
]

TEAM = "hyperpod-ns-research"
JOB = "pytorchjobs.kubeflow.org"
# A person with the rules of the built-in role `edit`, on which AmazonEKSEditPolicy is modelled; the
# role itself is filled by a controller.
EDITOR = """
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: editors, namespace: hyperpod-ns-research}
subjects: [{kind: Group, name: editors, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: "system:aggregate-to-edit", apiGroup: rbac.authorization.k8s.io}
"""


def _resource_definition(group: str, plural: str, kind: str) -> dict[str, Any]:
    """Return a definition of a kind whose objects are not validated."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": plural[:-1], "kind": kind},
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with run_api_server(tmp_path_factory.mktemp("api-server")) as running:
        yield running


@pytest.fixture(scope="module")
def people(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kubectl]:
    """Return each person's client, with the configuration that `temper connect` writes.

    The program `aws` that it names is one that prints the token of the person.
    """
    folder = tmp_path_factory.mktemp("people")
    endpoint = EksEndpoint(
        "training", "us-east-1", f"https://{SERVER_NAME}", server.certificate_authority, False
    )
    clients = {}
    for person in ("admin", "engineer", "editor"):
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "kind": "ExecCredential",
            "status": {"token": f"{person}-token"},
        }
        program = folder / f"aws-of-{person}"
        program.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n", encoding="utf-8")
        program.chmod(0o700)
        config = kubeconfig(endpoint, server.port)
        config["users"][0]["user"]["exec"]["command"] = str(program)
        file = folder / f"{person}.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        clients[person] = Kubectl(TEAM, kubeconfig=str(file))
    return clients


@pytest.fixture(scope="module")
def admin(people: dict[str, Kubectl]) -> Kubectl:
    """Return the administrator's client of a cluster with HyperPod's chart and quotas."""
    client = people["admin"]
    kinds = [
        _resource_definition("kubeflow.org", "pytorchjobs", "PyTorchJob"),
        _resource_definition("kueue.x-k8s.io", "localqueues", "LocalQueue"),
        _resource_definition("kueue.x-k8s.io", "workloads", "Workload"),
    ]
    with pytest.raises(LaunchError, match=r"the cluster lacks pytorchjobs.*and the namespace"):
        require_cluster(client, SETUP)
    client.run("apply", "-f", "-", stdin=to_yaml(kinds))
    client.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    for namespace in sorted(SETUP.teams):
        client.run("create", "namespace", namespace)
    client.run("apply", "-f", "-", stdin=EDITOR)
    return client


@pytest.fixture(scope="module")
def set_up(admin: Kubectl) -> Kubectl:
    """Return the administrator's client of a cluster that is set up."""
    require_cluster(admin, SETUP)
    apply_objects(admin.in_namespace(""), OBJECTS)
    return admin


OBJECTS = cluster_objects(SETUP)


def test_before_the_setup_nobody_but_administrators_may_run_jobs(
    admin: Kubectl, people: dict[str, Kubectl]
) -> None:
    assert admin.allows("create", JOB)
    assert not people["engineer"].allows("create", JOB)
    # The access policy that engineers had covers everything but the kind of their jobs.
    assert people["editor"].allows("create", "configmaps")
    assert people["editor"].allows("get", "secrets")
    assert not people["editor"].allows("create", JOB)
    assert admin.server() == SERVER_NAME and has_kind(admin, JOB)


def test_setup_changes_nothing_the_second_time(set_up: Kubectl) -> None:
    def contents() -> list[dict[str, Any]]:
        listed = set_up.run(
            *("get", "role,rolebinding,pvc,pv,serviceaccount", "--all-namespaces"),
            *("--selector=app.kubernetes.io/managed-by=temper", "--output=json"),
        )
        items: list[dict[str, Any]] = json.loads(listed)["items"]
        for each in items:
            # An API server may write an object although nothing in it has changed.
            del each["metadata"]["resourceVersion"]
        return items

    before = contents()
    assert len(before) == 5 * len(SETUP.namespaces)
    apply_objects(set_up.in_namespace(""), OBJECTS)
    assert contents() == before


def test_setup_after_the_file_system_has_grown(set_up: Kubectl) -> None:
    grown = replace(SETUP, volume=replace(SETUP.volume, capacity_gib=4800))
    apply_objects(set_up.in_namespace(""), cluster_objects(grown))
    [volume, _] = json.loads(set_up.run("get", "pv", "--output=json"))["items"]
    assert volume["spec"]["capacity"]["storage"] == "4800Gi"
    apply_objects(set_up.in_namespace(""), OBJECTS)


@pytest.mark.parametrize("namespace", SETUP.namespaces)
def test_engineers_may_do_what_the_launcher_does(
    set_up: Kubectl, people: dict[str, Kubectl], namespace: str
) -> None:
    engineer = people["engineer"].in_namespace(namespace)
    for group, resource, verbs in PERMISSIONS:
        kind, slash, subresource = resource.partition("/")
        name = (f"{kind}.{group}" if group else kind) + slash + subresource
        assert [verb for verb in verbs if not engineer.allows(verb, name)] == [], name


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("impersonate", "serviceaccounts"),
        ("create", "serviceaccounts/token"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("update", "roles.rbac.authorization.k8s.io"),
        ("create", "persistentvolumes"),
        ("delete", "persistentvolumeclaims"),
        ("delete", "namespaces"),
        ("update", "localqueues.kueue.x-k8s.io"),
    ],
)
def test_engineers_may_do_nothing_else(
    set_up: Kubectl, people: dict[str, Kubectl], verb: str, resource: str
) -> None:
    assert not people["engineer"].allows(verb, resource)
    assert set_up.allows(verb, resource)


@pytest.mark.parametrize("namespace", ["default", "kube-system"])
def test_engineers_may_run_jobs_nowhere_else(
    set_up: Kubectl, people: dict[str, Kubectl], namespace: str
) -> None:
    assert not people["engineer"].in_namespace(namespace).allows("create", JOB)


def test_requests_of_the_launcher_are_accepted(set_up: Kubectl, people: dict[str, Kubectl]) -> None:
    """Send each command that the target sends, as the engineer."""
    engineer = people["engineer"]
    cluster = settings_of_job(HYPERPOD, ("research",), "research")
    spec = PodSpec("a", "a/20261101-120000-ab12", "name: a\n", "image")
    resources = Resources.model_validate({"instance": "ml.g5.12xlarge", "count": 2})
    documents = to_yaml(manifests(spec, resources, cluster))
    engineer.run("apply", "-f", "-", stdin=documents)
    engineer.run("apply", "-f", "-", stdin=documents.replace("backoffLimit: 2", "backoffLimit: 3"))
    assert engineer.find("persistentvolumeclaim", cluster.claim) is not None
    job = engineer.find(JOB, "a")
    assert job is not None and job["metadata"]["namespace"] == TEAM
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == f"{TEAM}-localqueue"
    engineer.run("patch", JOB, "a", "--type=merge", '--patch={"spec": {"runPolicy": {}}}')
    with pytest.raises(LaunchError, match="not found"):  # allowed, but no pod was started
        engineer.run("logs", "a-worker-0", "--container=pytorch")
    engineer.run("delete", f"{JOB},configmap", "a", "--ignore-not-found", "--wait=false")
    assert engineer.find(JOB, "a") is None
    with pytest.raises(LaunchError, match="temper cluster-setup"):
        engineer.in_namespace("default").run(
            "apply", "-f", "-", stdin=documents.replace(TEAM, "default")
        )


def test_a_volume_of_another_file_system_is_refused(set_up: Kubectl) -> None:
    """The API server keeps the source of a volume; set-up says so instead of half applying."""
    other = replace(SETUP.volume, dns_name="fs-9.fsx.us-east-1.amazonaws.com")
    changed = cluster_objects(replace(SETUP, volume=other))
    with pytest.raises(LaunchError, match="immutable"):
        apply_objects(set_up.in_namespace(""), changed)
