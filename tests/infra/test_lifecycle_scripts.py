"""The lifecycle scripts of HyperPod nodes, executed in a mount namespace as HyperPod would."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stacks.constructs.hyperpod_lifecycle import (
    ENTRY_POINT,
    GROUP_ID,
    SCRIPTS,
    files_digest,
    lifecycle_files,
)
from stacks.settings.hyperpod import HyperPodSettings
from tests.infra.conftest import Assembly
from tests.infra.permissions.resolved import ResolvedRoles

# File that HyperPod writes on every node before a script runs, as AWS's extensions read it:
# github.com/awslabs/awsome-distributed-ai, folder
# 1.architectures/5.sagemaker-hyperpod/Extensions/detect-node
RESOURCES = {
    "ClusterConfig": {"ClusterName": "temper-dev-cluster"},
    "InstanceGroups": [
        {
            "Name": "head",
            "InstanceType": "ml.c5.xlarge",
            "Instances": [{"InstanceName": "head-1", "CustomerIpAddress": "10.1.0.10"}],
        },
        {"Name": "door", "Instances": [{"CustomerIpAddress": "10.1.0.11"}]},
        {"Name": "gpus", "Instances": [{"CustomerIpAddress": "10.1.0.12"}]},
        {"Name": "empty", "Instances": None},
    ],
}
PARAMETERS = {
    "version": "1.0.0",
    "workload_manager": "slurm",
    "controller_group": "head",
    "login_group": "door",
    "worker_groups": [{"instance_group_name": "gpus", "partition_name": "gpus"}],
}

# The namespace has its own /etc, /opt and /mnt, so nothing of the machine changes. A folder of the
# test is mounted in place of Lustre.
_NODE = """
set -e
mkdir -p {home}/up {home}/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={home}/up,workdir={home}/work /etc
mount -t tmpfs tmpfs /opt
mount -t tmpfs tmpfs /mnt
mkdir /mnt/fsx
mount --bind {home}/fsx /mnt/fsx
{before}
{script}
"""


def _can_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/opt"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


needs_namespace = [
    pytest.mark.root,
    pytest.mark.skipif(not _can_mount(), reason="mount namespaces need root"),
]


class Node:
    """A node in a mount namespace, whose file system is a folder of the test."""

    def __init__(self, home: Path, settings: HyperPodSettings, address: str = "10.1.0.11"):
        self.home = home
        self.scripts = home / "scripts"
        self.scripts.mkdir(parents=True)
        for folder in ("fsx", "config", "bin"):
            (home / folder).mkdir(exist_ok=True)
        for name, text in lifecycle_files(settings).items():
            # HyperPod downloads the files from S3, so they are not executable.
            text = text.replace("TEMPER_SHARED=/fsx", "TEMPER_SHARED=/mnt/fsx")
            (self.scripts / name).write_text(text)
        (home / "config/resource_config.json").write_text(json.dumps(RESOURCES))
        (home / "config/provisioning_parameters.json").write_text(json.dumps(PARAMETERS))
        self.variables = {
            "PATH": f"{home}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TEMPER_CONFIG": str(home / "config"),
            "TEMPER_ADDRESSES": address,
            "TEMPER_STATE": str(home / "state"),
            "TEMPER_LOG": str(home / "log/temper.log"),
            "TEMPER_LOG_UPLOAD_S": "0",
            "TEMPER_MOUNT_TIMEOUT_S": "0",
        }

    def program(self, name: str, text: str) -> None:
        """Add a program to the node."""
        (self.home / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (self.home / "bin" / name).chmod(0o755)

    def run(self, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
        """Execute the entry point in the node's namespace, between two other commands."""
        script = f"bash {self.scripts / ENTRY_POINT}\n{after}"
        return subprocess.run(
            [
                *("unshare", "--mount", "bash", "-c"),
                _NODE.format(home=self.home, before=before, script=script),
            ],
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )


SHOW = (
    "getent group temper; getent passwd alice bob; id -Gn alice; stat -c '%a %U %G' /mnt/fsx/home/*"
)


class TestScripts:
    """Executed scripts."""

    pytestmark = needs_namespace

    def test_a_node_is_prepared_and_again_without_a_change(self, tmp_path: Path) -> None:
        settings = HyperPodSettings(users={"alice": 2001, "bob": 2002}, software="environment")
        node = Node(tmp_path, settings)
        first = node.run(after=SHOW)
        assert first.returncode == 0, first.stdout + first.stderr
        assert f"temper:x:{GROUP_ID}:alice,bob" in first.stdout
        assert "alice:x:2001:2001::/mnt/fsx/home/alice:/bin/bash" in first.stdout
        assert "alice temper" in first.stdout
        assert "700 alice alice\n700 bob bob\n" in first.stdout
        folders = {p.name: p.stat() for p in (tmp_path / "fsx/temper").iterdir()}
        assert {"cache", "code", "data", "environments", "images", "runs", "uploads"} == set(
            folders
        )
        assert {(oct(s.st_mode & 0o7777), s.st_uid, s.st_gid) for s in folders.values()} == {
            ("0o2775", 0, GROUP_ID)
        }
        digest = (tmp_path / "state/lifecycle-digest").read_text().strip()
        assert digest in (node.scripts / "settings.env").read_text()
        # Data of the first life of the node survives its second one, and the end is the same.
        mine = tmp_path / "fsx/home/alice/notes"
        mine.write_text("mine")
        again = node.run(after=SHOW)
        assert again.returncode == 0, again.stdout + again.stderr
        assert mine.read_text() == "mine"
        tail = "temper: ready\n"
        assert again.stdout.split(tail)[1] == first.stdout.split(tail)[1]

    def test_a_run_folder_of_one_user_belongs_to_the_group(self, tmp_path: Path) -> None:
        node = Node(tmp_path, HyperPodSettings(users={"alice": 2001}, software="environment"))
        write = "setpriv --reuid alice --regid alice --init-groups mkdir /mnt/fsx/temper/runs/mine"
        done = node.run(after=write)
        assert done.returncode == 0, done.stdout + done.stderr
        made = (tmp_path / "fsx/temper/runs/mine").stat()
        assert (made.st_uid, made.st_gid) == (2001, GROUP_ID)

    @pytest.mark.parametrize(
        ("address", "node_type"),
        [("10.1.0.10", "controller"), ("172.17.0.1 10.1.0.11", "login"), ("10.1.0.12", "compute")],
    )
    def test_type_of_the_node(self, tmp_path: Path, address: str, node_type: str) -> None:
        node = Node(tmp_path, HyperPodSettings(software="environment"), address)
        done = node.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "state/node-type").read_text().strip() == node_type
        assert os.access(tmp_path / "state/bin/authorize-key", os.X_OK)

    @pytest.mark.parametrize(
        ("before", "address", "message"),
        [
            ("umount /mnt/fsx", "10.1.0.10", "/mnt/fsx is not mounted after 0 s"),
            ("groupadd --gid 4711 temper", "10.1.0.10", "has the number 4711 here"),
            ("useradd --uid 3000 alice", "10.1.0.10", "set hyperpod.users.alice: 3000"),
            ("true", "192.0.2.1", "none of 192.0.2.1 is an address in resource_config.json"),
        ],
    )
    def test_a_node_that_cannot_work_fails_with_the_reason(
        self, tmp_path: Path, before: str, address: str, message: str
    ) -> None:
        settings = HyperPodSettings(users={"alice": 2001}, software="environment")
        done = Node(tmp_path, settings, address).run(before)
        assert done.returncode != 0
        assert message in done.stdout + done.stderr
        assert "FAILED" in (tmp_path / "log/temper.log").read_text()

    def test_container_software_of_the_ami_is_used(self, tmp_path: Path) -> None:
        node = Node(tmp_path, HyperPodSettings())
        node.program("enroot", "exit 0")
        node.program("srun", "echo '      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH'")
        done = node.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Enroot and Pyxis are installed" in done.stdout

    def test_a_node_without_container_software_says_what_to_set(self, tmp_path: Path) -> None:
        node = Node(tmp_path, HyperPodSettings())
        node.program("srun", "echo usage")
        done = node.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" in done.stdout and "hyperpod.container_packages" in done.stdout

    @pytest.mark.parametrize("genuine", [True, False])
    def test_packages_are_installed_only_with_their_digest(
        self, tmp_path: Path, genuine: bool
    ) -> None:
        served = tmp_path / "served.deb"
        served.write_bytes(b"a package")
        digest = subprocess.run(["sha256sum", served], capture_output=True, text=True).stdout[:64]
        url = "s3://temper-dev-data-111122223333-us-east-1/enroot_4.1.2-1_amd64.deb"
        package = {"url": url, "sha256": digest if genuine else "0" * 64}
        node = Node(tmp_path / "node", HyperPodSettings(container_packages=[package]))
        node.program("aws", f'echo "aws $*" >>{tmp_path}/calls; cp {served} "${{@: -1}}"')
        node.program("apt-get", f'echo "apt-get $*" >>{tmp_path}/calls')
        node.program("systemctl", "exit 3")
        node.program("srun", "echo usage")
        done = node.run()
        calls = (tmp_path / "calls").read_text()
        assert f"s3 cp --only-show-errors {url}" in calls
        assert ("apt-get install" in calls) is genuine
        assert (done.returncode == 0) is genuine, done.stdout + done.stderr
        if not genuine:
            assert "is not the file with the SHA-256" in done.stdout + done.stderr


def test_the_digest_changes_with_each_file_and_setting() -> None:
    plain = HyperPodSettings()
    variants = [
        plain,
        HyperPodSettings(software="environment"),
        HyperPodSettings(users={"alice": 2001}),
        HyperPodSettings(
            container_packages=[{"url": "https://example.com/enroot.deb", "sha256": "0" * 64}]
        ),
    ]
    digests = [files_digest(lifecycle_files(each)) for each in variants]
    assert len(set(digests)) == len(variants)
    assert files_digest(lifecycle_files(plain)) == digests[0]
    changed = {**lifecycle_files(plain), "users.sh": "echo changed"}
    assert files_digest(changed) not in digests


def test_every_script_passes_its_linter() -> None:
    scripts = sorted(SCRIPTS.glob("*.sh"))
    assert len(scripts) >= 6
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert "set -euo pipefail" in script.read_text(encoding="utf-8"), script
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", *map(str, scripts)], check=True)


def test_every_group_runs_the_published_scripts(everything: Assembly) -> None:
    [cluster] = everything.of_type("AWS::SageMaker::Cluster")
    [files] = everything.of_type("Custom::LifecycleScripts")
    properties: dict[str, Any] = files["Properties"]
    bucket = "sagemaker-temper-all-111122223333-us-east-1"
    configs = [group["LifeCycleConfig"] for group in cluster["Properties"]["InstanceGroups"]]
    expected = {
        "SourceS3Uri": f"s3://{bucket}/{properties['Prefix']}/",
        "OnInitComplete": ENTRY_POINT,
    }
    assert configs == [expected] * 3
    assert ENTRY_POINT in properties["Files"]
    assert properties["Prefix"] == files_digest(properties["Files"])
    # CloudFormation must publish the scripts, and let nodes read them, before it creates nodes.
    template = everything.templates["hyperpod"]["Resources"]
    awaited = {template[name]["Type"] for name in cluster["DependsOn"]}
    assert {"Custom::LifecycleScripts", "AWS::IAM::ManagedPolicy"} <= awaited


def test_only_the_deployment_writes_the_scripts(everything: Assembly) -> None:
    roles = ResolvedRoles(everything)
    for role in ("HyperPodNode", "HyperPodController", "Engineer", "Training"):
        for policy in roles.policies_of(roles.role(role)):
            for statement in policy["policy"]["Statement"]:
                if statement["Effect"] == "Allow" and "s3:Put" in str(statement["Action"]):
                    assert "sagemaker-temper-all" not in str(statement["Resource"]), role


def test_a_cluster_on_eks_runs_no_script(eks: Assembly) -> None:
    [cluster] = eks.of_type("AWS::SageMaker::Cluster")
    assert all("LifeCycleConfig" not in g for g in cluster["Properties"]["InstanceGroups"])
    assert not eks.of_type("Custom::LifecycleScripts")
