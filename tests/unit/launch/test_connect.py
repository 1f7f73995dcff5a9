"""Access to a node through Session Manager, with a stand-in for the AWS CLI and a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from emulator.environment import EmulatedEnvironment
from launch import connect as command
from launch.aws.session import AwsSession
from launch.errors import LaunchError
from launch.slurm.session_manager import ssh_config
from launch.slurm.shell import SshShell, run_script
from launch.targets.hyperpod import _submit_shell
from tests.unit.launch.conftest import boto
from tests.unit.launch.fake_accounts import DEV, platform
from tests.unit.launch.test_hyperpod import CLUSTER, NAME, node

SSHD = Path("/usr/sbin/sshd")
ROOT = Path(__file__).parents[3]
_AWS = """#!/bin/bash
# Session Manager: executes the node's script, or connects standard input to the node's sshd.
echo "$@" >>"{home}/aws.log"
case "$*" in
    *AWS-StartSSHSession*) exec {sshd} -i -f "{home}/sshd.conf" ;;
esac
while [ $# -gt 0 ]; do [ "$1" = --parameters ] && parameters=$2; shift; done
echo "Starting session with SessionId: engineer-0123"
TEMPER_STATE="{home}" PATH="{home}/bin:$PATH" {script} $(
    python3 -c 'import json, sys
for value in json.loads(sys.argv[1]).values(): print(value[0])' "$parameters") 2>&1
echo "Exiting session with sessionId: engineer-0123."
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a person's home with a key, and on PATH the AWS CLI and its plug-in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("SLURM_LOGIN", "SLURM_USER", "AWS_PROFILE", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    _keygen(tmp_path / ".ssh" / "id_ed25519", "alice@laptop with spaces")
    programs = tmp_path / "programs"
    programs.mkdir()
    script = ROOT / "stacks/hyperpod_lifecycle/authorize-key.sh"
    _program(programs / "aws", _AWS.format(home=tmp_path, sshd=SSHD, script=script))
    _program(programs / "session-manager-plugin", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "node-type").write_text("login")
    return tmp_path


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _keygen(path: Path, comment: str = "") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True
    )


def _user(home: Path, name: str, uid: int) -> None:
    """Add a user to the node, whose home is a folder of the test."""
    entry = f"{name}:x:{uid}:{uid}::{home}/node:/bin/bash"
    (home / "node").mkdir(exist_ok=True)
    _program(home / "bin" / "getent", f'#!/bin/sh\n[ "$2" = {name} ] && echo "{entry}" || exit 2\n')


@pytest.fixture
def account(emulated: EmulatedEnvironment, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSession]:
    """Yield the account of a deployed platform with a Slurm cluster."""
    ssm, values = boto(emulated, "ssm"), {"cluster": NAME, "key-document": "temper-dev-key"}
    names = {f"/{DEV.prefix}/hyperpod/{key}": value for key, value in values.items()}
    for name, value in names.items():
        ssm.put_parameter(Name=name, Value=value, Type="String")
    session = AwsSession(DEV)
    monkeypatch.setattr(command, "AwsSession", lambda environment: session)
    yield session
    ssm.delete_parameters(Names=list(names))


def connect(
    account: AwsSession, *nodes: dict[str, Any], cluster: dict[str, Any] = CLUSTER, **options: Any
) -> int:
    asked = {"node": "", "user": "", "key": "", "setup_only": True, **options}
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("describe_cluster", {**cluster, "Orchestrator": {"Slurm": {}}})
        answers.add_response("list_cluster_nodes", {"ClusterNodeSummaries": list(nodes)})
        return command.connect(DEV, **asked)


@pytest.mark.root
@pytest.mark.skipif(not SSHD.exists(), reason="sshd is not installed: openssh-server")
@pytest.mark.skipif(os.geteuid() != 0, reason="a login as another user needs root")
def test_ssh_through_session_manager(
    home: Path, account: AwsSession, capsys: pytest.CaptureFixture[str]
) -> None:
    # The user of the node is root, because sshd reads the real list of users; the script is told
    # an id that it accepts.
    _user(home, "root", 1000)
    _keygen(home / "host_key")
    Path("/run/sshd").mkdir(exist_ok=True)
    keys = home / "node/.ssh/authorized_keys"
    (home / "sshd.conf").write_text(
        f"HostKey {home}/host_key\nAuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\n"
    )
    assert connect(account, node("head"), node("door"), user="root") == 0
    [entry] = keys.read_text().splitlines()
    public = (home / ".ssh/id_ed25519.pub").read_text().split()
    assert entry.split() == [*public[:2], "alice@laptop-with-spaces"]
    log = (home / "aws.log").read_text()
    assert "--target sagemaker-cluster:abcdefghij12_door-i-door --region us-east-1" in log
    assert f"ssh -F {ssh_config(DEV.prefix)} {DEV.prefix}" in capsys.readouterr().out
    done = subprocess.run(
        ["ssh", "-F", str(ssh_config(DEV.prefix)), "-o", "BatchMode=yes", DEV.prefix, "echo $HOME"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "/root"
    # The launcher uses what `temper connect` set up, also after the host key changed.
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("list_cluster_nodes", {"ClusterNodeSummaries": [node("door")]})
        shell = _submit_shell(account, CLUSTER)
    assert run_script(shell, "echo reached").strip() == "reached"
    for suffix in ("", ".pub"):
        (home / f"host_key{suffix}").unlink()
    _keygen(home / "host_key")
    with pytest.raises(LaunchError, match="make connect ENV=dev"):
        run_script(shell, "true")
    assert connect(account, node("door"), user="root") == 0
    assert run_script(shell, "echo again").strip() == "again"


def test_launcher_names_the_command_that_gives_access(home: Path, account: AwsSession) -> None:
    _program(
        home / "programs" / "ssh",
        "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n",
    )
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("list_cluster_nodes", {"ClusterNodeSummaries": [node("head")]})
        shell = _submit_shell(account, CLUSTER)
    assert isinstance(shell, SshShell)
    with pytest.raises(LaunchError, match=r"Permission denied.*make connect ENV=dev"):
        run_script(shell, "true")


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [("", "door"), ("controller", "head"), ("Login", "door"), ("head", "head"), ("i-door", "door")],
)
def test_node_that_is_asked_for(home: Path, account: AwsSession, wanted: str, reached: str) -> None:
    _program(home / "programs" / "ssh", "#!/bin/sh\n")
    _user(home, "ubuntu", 1000)
    assert connect(account, node("gpus"), node("head"), node("door"), node=wanted) == 0
    assert f"_{reached}-i-{reached}" in ssh_config(DEV.prefix).read_text()


@pytest.mark.parametrize(
    ("nodes", "wanted", "message"),
    [
        (["head", "gpus"], "gpus", r"NODE=gpus is no login or controller .* head \(controller\)"),
        (["gpus"], "", r"no running login or controller node \(it has none\)"),
    ],
)
def test_no_such_node(
    home: Path, account: AwsSession, nodes: list[str], wanted: str, message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        connect(account, *(node(group) for group in nodes), node=wanted)


def test_node_refuses_the_key(home: Path, account: AwsSession) -> None:
    _user(home, "ubuntu", 1000)
    with pytest.raises(LaunchError, match="did not accept the key") as refused:
        connect(account, node("head"), user="mallory")
    assert "LifecycleConfig" in str(refused.value)
    assert not ssh_config(DEV.prefix).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "is a private key; name the public one"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAJ0123456789012345678901234567 me", "no public key of one"),
        ("ssh-ed25519 $(reboot) me", "no public key of one"),
        ("", "no public key of one"),
    ],
)
def test_file_without_a_public_key(
    home: Path, account: AwsSession, content: str, message: str
) -> None:
    file = home / "given"
    file.write_text(content)
    with pytest.raises(LaunchError, match=message):
        connect(account, node("head"), key=str(file))


def test_no_key_at_all(home: Path, account: AwsSession) -> None:
    shutil.rmtree(home / ".ssh")
    with pytest.raises(LaunchError, match="ssh-keygen -t ed25519"):
        connect(account, node("head"))


def test_missing_programs_are_named_with_their_source(
    home: Path, account: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home / "nowhere"))
    with pytest.raises(LaunchError, match="session-manager-plugin") as refused:
        command.connect(DEV, node="", user="", key="", setup_only=True)
    assert "docs.aws.amazon.com" in str(refused.value)


def test_a_cluster_on_eks_is_used_through_kubectl(
    home: Path, account: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = platform(**{"hyperpod/eks": "temper-dev-eks"})
    monkeypatch.setattr(command, "read_platform_parameters", lambda *_: ours)
    asked: list[Any] = []
    monkeypatch.setattr(
        "launch.eks.connect.connect_to_eks", lambda *_, **options: asked.append(options) or 0
    )
    assert command.connect(DEV, node="workers", user="", key="", setup_only=True) == 0
    assert asked == [{"node": "workers", "setup_only": True}]
    with pytest.raises(LaunchError, match="--user and --key are for ssh to a Slurm cluster"):
        command.connect(DEV, node="", user="alice", key="", setup_only=True)
