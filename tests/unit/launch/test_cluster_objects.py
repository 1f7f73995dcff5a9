"""Objects that `temper cluster-setup` applies: golden file, schemas, and permissions.

`python -m tests.unit.launch.test_cluster_objects` rewrites the golden file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.eks.cluster_objects import (
    CLAIM,
    ENGINEERS,
    SERVICE_ACCOUNT,
    AutoscaledGroup,
    ClusterSetup,
    LustreVolume,
    cluster_objects,
)
from launch.eks.manifests import KubernetesSettings, to_yaml
from launch.errors import LaunchError

GOLDEN = Path(__file__).with_name("manifests") / "cluster-setup.yaml"
VOLUME = LustreVolume(
    "fs-0123456789abcdef0",
    "fs-0123456789abcdef0.fsx.us-east-1.amazonaws.com",
    "abcdefgh",
    2400,
)
SETUP = ClusterSetup(
    ("hyperpod-ns-temper", "hyperpod-ns-research"), frozenset({"hyperpod-ns-research"}), VOLUME
)
GROUPS = (
    AutoscaledGroup("experiments", "ml.g5.12xlarge", 4, 30),
    AutoscaledGroup("Trainium", "ml.trn2.48xlarge", 2, 15),
)
HYPERPOD = KubernetesSettings("hyperpod-ns-temper", CLAIM, SERVICE_ACCOUNT)
# Kinds of HyperPod and Karpenter, whose schemas no package has.
CUSTOM = {"HyperpodNodeClass", "NodePool"}


def objects() -> list[dict[str, Any]]:
    return cluster_objects(replace(SETUP, autoscaled_groups=GROUPS))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in objects() if each["kind"] == kind]


def test_matches_golden_file() -> None:
    golden = GOLDEN.read_text(encoding="utf-8")
    assert to_yaml(objects()) == golden, "python -m tests.unit.launch.test_cluster_objects"


def test_valid_kubernetes_objects() -> None:
    import kubernetes_validate

    version = kubernetes_validate.latest_version()
    checked = [each for each in objects() if each["kind"] not in CUSTOM]
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)
    assert {each["kind"] for each in checked} == {
        "Namespace",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "PersistentVolume",
        "PersistentVolumeClaim",
    }


def test_every_namespace_has_all_that_a_job_uses() -> None:
    for namespace in SETUP.namespaces:
        inside = {
            each["kind"]: each["metadata"]["name"]
            for each in objects()
            if each["metadata"].get("namespace") == namespace
        }
        assert inside == {
            "ServiceAccount": SERVICE_ACCOUNT,
            "Role": ENGINEERS,
            "RoleBinding": ENGINEERS,
            "PersistentVolumeClaim": CLAIM,
        }
    # Task governance creates the namespaces of teams, with labels of its own.
    assert [each["metadata"]["name"] for each in of_kind("Namespace")] == ["hyperpod-ns-temper"]


def test_each_claim_has_its_own_volume_of_the_same_file_system() -> None:
    volumes = {each["metadata"]["name"]: each["spec"] for each in of_kind("PersistentVolume")}
    claims = of_kind("PersistentVolumeClaim")
    assert len(volumes) == len(claims) == len(SETUP.namespaces)
    for claim in claims:
        volume = volumes[claim["spec"]["volumeName"]]
        assert volume["claimRef"]["namespace"] == claim["metadata"]["namespace"]
        assert volume["csi"]["volumeHandle"] == VOLUME.file_system
        assert volume["csi"]["volumeAttributes"] == {
            "dnsname": VOLUME.dns_name,
            "mountname": VOLUME.mount_name,
        }
        assert volume["persistentVolumeReclaimPolicy"] == "Retain"
        assert volume["storageClassName"] == claim["spec"]["storageClassName"] == ""


def test_engineers_get_no_wildcard_and_no_secret() -> None:
    for role in of_kind("Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not {"secrets", "roles", "rolebindings", "pods/exec"} & set(rule["resources"])


def test_autoscaled_groups_are_limited_and_empty_nodes_removed() -> None:
    pools = {each["metadata"]["name"]: each["spec"] for each in of_kind("NodePool")}
    assert pools["experiments"]["limits"] == {"nvidia.com/gpu": "16"}
    assert pools["trainium"]["limits"] == {"aws.amazon.com/neuron": "32"}
    assert pools["experiments"]["disruption"] == {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "30m",
    }
    classes = {each["metadata"]["name"]: each["spec"] for each in of_kind("HyperpodNodeClass")}
    assert classes["trainium"] == {"instanceGroups": ["Trainium"]}


def test_an_autoscaled_group_of_an_unknown_type() -> None:
    group = AutoscaledGroup("new", "ml.p9.48xlarge", 1, 15)
    with pytest.raises(LaunchError, match=r"ml\.p9\.48xlarge of the group new is not in the"):
        cluster_objects(replace(SETUP, autoscaled_groups=(group,)))


if __name__ == "__main__":
    GOLDEN.write_text(to_yaml(objects()), encoding="utf-8")
