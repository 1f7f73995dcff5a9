"""Doctor's checks of an EKS cluster, each with the fault that it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.aws.session import AwsSession
from launch.doctor.checks import run_checks
from launch.doctor.command import _checks
from launch.doctor.eks_checks import EksChecks
from launch.eks.kubectl import Kubectl
from launch.errors import LaunchError
from tests.unit.launch.fake_accounts import DEV, platform

PLATFORM = platform(
    **{"hyperpod/eks": "temper-dev-eks", "hyperpod/namespaces": "hyperpod-ns-a,hyperpod-ns-b"}
)


class Cluster(Kubectl):
    """Client of a cluster that is set up, but for one thing."""

    def __init__(self, lacking: str = ""):
        super().__init__("")
        self.lacking = lacking

    def run(self, *arguments: str, stdin: str = "") -> str:
        command = " ".join((self.namespace, *arguments))
        if self.lacking and self.lacking in command:
            if arguments[0] == "auth":
                raise LaunchError("kubectl auth: the answer is no")
            return "" if arguments[0] != "get" or "raw" not in command else self._refuse()
        if arguments[0] == "auth":
            return "yes\n"
        if arguments[0] == "api-resources":
            return "pytorchjobs.kubeflow.org\n"
        if "persistentvolumeclaim" in arguments:
            phase = "Pending" if self.lacking == "bound" else "Bound"
            return json.dumps({"status": {"phase": phase}})
        return "{}"

    def _refuse(self) -> str:
        raise LaunchError("kubectl get: dial tcp: connection refused")


def findings(lacking: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str, str]]:
    monkeypatch.setattr("launch.doctor.eks_checks.kubectl_of", lambda *_: Cluster(lacking))
    checks = EksChecks(AwsSession(DEV))
    checks.__dict__["platform"] = PLATFORM
    return {
        each.check: (each.outcome, each.detail, each.fix) for each in run_checks(checks.checks())
    }


def test_a_cluster_that_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings("", monkeypatch)
    assert [outcome for outcome, *_ in found.values()] == ["ok"] * 4
    assert "hyperpod-ns-a, hyperpod-ns-b" in found["permissions"][1]


@pytest.mark.parametrize(
    ("lacking", "check", "detail", "fix"),
    [
        ("api-resources", "operator", "no pytorchjobs.kubeflow.org", "Helm chart"),
        (
            "hyperpod-ns-b auth can-i create pytorchjobs",
            "permissions",
            "you may not create pytorchjobs.kubeflow.org in hyperpod-ns-b",
            "temper cluster-setup --env dev",
        ),
        (
            "hyperpod-ns-b get persistentvolumeclaim",
            "volume",
            "hyperpod-ns-b has no claim fsx-claim",
            "temper cluster-setup --env dev",
        ),
        ("bound", "volume", "in hyperpod-ns-a is Pending", "kubectl describe"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, lacking: str, check: str, detail: str, fix: str
) -> None:
    outcome, text, command = findings(lacking, monkeypatch)[check]
    assert outcome == "failed"
    assert detail in text
    assert fix in command


def test_a_cluster_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings("raw", monkeypatch)
    assert found["cluster"][0] == "failed" and "connection refused" in found["cluster"][1]
    assert {found[check][0] for check in ("operator", "permissions", "volume")} == {"skipped"}


@pytest.mark.parametrize(("hyperpod", "checked"), [("eks", True), ("slurm", False)])
def test_only_environments_on_eks_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hyperpod: str, checked: bool
) -> None:
    folder = tmp_path / "environments"
    folder.mkdir()
    text = f"prefix: a\nregion: us-east-1\nhyperpod: {{enabled: true, orchestrator: {hyperpod}}}\n"
    (folder / "dev.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = [check.name for check in _checks("dev", None, "", tmp_path / "runs")]
    assert ("permissions" in names) is checked
