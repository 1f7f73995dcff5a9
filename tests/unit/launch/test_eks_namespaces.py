"""Namespace and queue of a job on EKS, and where a job is looked for afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.run_metrics import metric_namespace
from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.eks.cluster_objects import CLAIM, PERMISSIONS, SERVICE_ACCOUNT
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import KubernetesSettings
from launch.eks.namespaces import is_resumed, platform_settings, settings_of_job
from launch.errors import LaunchError
from launch.targets.eks import EksTarget, _warnings
from tests.unit.launch.fake_accounts import DEV, platform
from tests.unit.launch.test_unanswered import JOB, submitted

CLUSTER = KubernetesSettings("hyperpod-ns-temper", CLAIM, SERVICE_ACCOUNT)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EKS_NAMESPACE", "EKS_CLAIM", "EKS_CONTEXT"):
        monkeypatch.delenv(name, raising=False)


def test_without_teams_the_partition_is_a_queue() -> None:
    assert settings_of_job(CLUSTER, (), None) == CLUSTER
    assert settings_of_job(CLUSTER, (), "batch").queue == "batch"
    assert settings_of_job(CLUSTER, (), "batch").namespace == CLUSTER.namespace


@pytest.mark.parametrize("partition", [None, "research"])
def test_the_only_team_is_chosen(partition: str | None) -> None:
    chosen = settings_of_job(CLUSTER, ("research",), partition)
    assert chosen.namespace == "hyperpod-ns-research"
    assert chosen.queue == "hyperpod-ns-research-localqueue"
    assert chosen.service_account == SERVICE_ACCOUNT


@pytest.mark.parametrize(
    ("partition", "says"), [(None, "is required"), ("sales", "'sales' is no team of the cluster")]
)
def test_one_of_several_teams_must_be_named(partition: str | None, says: str) -> None:
    with pytest.raises(LaunchError, match=rf"resources\.partition: {says}.*one of a, b"):
        settings_of_job(CLUSTER, ("a", "b"), partition)


def test_settings_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = platform(**{"hyperpod/namespaces": "hyperpod-ns-temper"})
    metrics = {"metric_namespace": metric_namespace("temper-dev"), "region": "us-east-1"}
    assert platform_settings(ours) == replace(CLUSTER, **metrics)
    monkeypatch.setenv("EKS_NAMESPACE", "kubeflow")
    assert platform_settings(ours).namespace == "kubeflow"
    monkeypatch.setenv("EKS_NAMESPACE", "research")
    with pytest.raises(LaunchError, match="EKS_NAMESPACE=research: HyperPod would not resume"):
        platform_settings(ours)
    with pytest.raises(LaunchError, match=r"make deploy ENV=dev; then temper cluster-setup"):
        platform_settings(platform())


def test_a_namespace_without_auto_resume_is_reported() -> None:
    assert [n for n in ("kubeflow", "hyperpod-ns-a", "team-a") if not is_resumed(n)] == ["team-a"]
    assert _warnings(CLUSTER) == []
    [warning] = _warnings(KubernetesSettings("team-a"))
    assert "does not resume jobs in team-a" in warning


class TeamKubectl(Kubectl):
    """Client of a cluster whose namespaces each have a claim, and one of them the job."""

    def __init__(self, job_in: str):
        super().__init__("hyperpod-ns-a")
        self.job_in = job_in
        self.asked: list[tuple[str, ...]] = []

    def run(self, *arguments: str, stdin: str = "") -> str:
        self.asked.append((self.namespace, *arguments))
        if arguments[:2] == ("get", "persistentvolumeclaim"):
            return json.dumps({"metadata": {"uid": f"uid-of-{self.namespace}"}})
        if arguments[0] == "get" and self.namespace == self.job_in:
            return json.dumps({"metadata": {"namespace": self.namespace}, "spec": {}})
        return ""


ACCOUNT = AwsSession(DEV)


def team_target(kubectl: TeamKubectl) -> EksTarget:
    return EksTarget(ACCOUNT, kubectl, CLUSTER, "hyperpod", ("a", "b"))


def test_a_recorded_job_is_asked_for_in_its_namespace(
    emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    kubectl = TeamKubectl("hyperpod-ns-b")
    handle = f"hyperpod-ns-b/{JOB}@uid-of-hyperpod-ns-b"
    submission = submitted(tmp_path / "runs", "hyperpod", handle)
    target = team_target(kubectl)
    assert target.status(submission).state == "training"
    assert "told to stop" in target.stop(submission)
    assert {namespace for namespace, *_ in kubectl.asked} == {"hyperpod-ns-b"}
    assert kubectl.asked[-1][1] == "patch"


def test_a_job_whose_acceptance_was_not_recorded_is_found(
    emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    """A crash between the request and the record must not make it look as if nothing runs."""
    kubectl = TeamKubectl("hyperpod-ns-b")
    submission = submitted(tmp_path / "runs", "hyperpod", "")
    assert team_target(kubectl).status(submission).state == "training"
    assert "told to stop" in team_target(kubectl).stop(submission)


@pytest.mark.parametrize("handle", [f"hyperpod-ns-b/{JOB}", f"hyperpod-ns-b/{JOB}@unknown"])
def test_a_record_without_its_cluster_never_ends_a_run(
    handle: str, emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    submission = submitted(tmp_path / "runs", "hyperpod", handle)
    with pytest.raises(LaunchError, match="does not say which cluster"):
        team_target(TeamKubectl("nowhere")).status(submission)


def test_a_namespace_that_is_not_set_up(emulated: EmulatedEnvironment) -> None:
    class Empty(TeamKubectl):
        def run(self, *arguments: str, stdin: str = "") -> str:
            return ""

    target = team_target(Empty(""))
    with pytest.raises(LaunchError, match=r"no volume claim fsx-claim .* temper cluster-setup"):
        target.jobs.claim_uid(CLUSTER.namespace)


# Verbs of the Kubernetes API that a kubectl command uses, as `kubectl --v=8` shows its requests.
VERBS = {
    "get": {"get"},
    "apply": {"get", "create", "patch"},
    "patch": {"get", "patch"},
    "delete": {"get", "delete"},
    "logs": {"get"},
}
RESOURCES = {
    "persistentvolumeclaim": "persistentvolumeclaims",
    "configmap": "configmaps",
    "logs": "pods/log",
}


def needed(command: tuple[str, ...]) -> set[tuple[str, str]]:
    """Return the verbs and resources that a command of the target needs."""
    verb, kind = command[1], command[2]
    if verb == "apply":
        kinds = ["pytorchjobs.kubeflow.org", "configmaps"]
    elif verb == "logs":
        return {("get", "pods"), ("get", "pods/log")}
    else:
        kinds = kind.split(",")
    verbs = {"list"} if "--selector=app.kubernetes.io/managed-by=temper" in command else VERBS[verb]
    names = [RESOURCES.get(each, each).removesuffix(".kubeflow.org") for each in kinds]
    return {(each, name) for each in verbs for name in names}


def test_engineers_are_granted_what_the_target_does(
    emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    """Every command of the target is in the role that the set-up binds; a real server agrees."""

    class Recording(TeamKubectl):
        def stream(self, *arguments: str) -> Iterator[str]:
            self.asked.append((self.namespace, *arguments))
            yield from ()

    kubectl = Recording("hyperpod-ns-b")
    target = team_target(kubectl)
    handle = f"hyperpod-ns-b/{JOB}@uid-of-hyperpod-ns-b"
    submission = submitted(tmp_path / "runs", "hyperpod", handle)
    target.status(submission)
    target.stop(submission)
    list(target.logs(submission, follow=True))
    target.list_runs(30)
    target.delete(submission)
    kubectl.asked.append(("hyperpod-ns-b", "apply", "-f", "-"))
    verbs = {command[1] for command in kubectl.asked}
    assert verbs == {"get", "patch", "logs", "delete", "apply"}
    granted = {(verb, resource) for _, resource, verbs in PERMISSIONS for verb in verbs}
    missing = {each for command in kubectl.asked for each in needed(command)} - granted
    assert missing == set()
