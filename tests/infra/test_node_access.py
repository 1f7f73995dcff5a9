"""Tests of the access of engineers to the nodes of a Slurm cluster."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stacks.constructs.node_access import AUTHORIZE_KEY, session_document
from tests.infra.conftest import ROOT, Assembly
from tests.infra.permissions.resolved import ACCOUNT, CLUSTER, REGION, ResolvedRoles

LIFECYCLE = ROOT / "stacks" / "hyperpod_lifecycle"
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHkkS0X3Tz0bq3mF0JZ8mD2c0m1V0b7m0dC0c1o9d2Xy"
OTHER = KEY[:-4] + "9999"


def _start_session(assembly: Assembly) -> list[dict[str, Any]]:
    roles = ResolvedRoles(assembly)
    return [
        statement
        for policy in roles.policies_of(roles.role("Engineer"))
        for statement in policy["policy"]["Statement"]
        if "ssm:StartSession" in str(statement["Action"]) and statement["Effect"] == "Allow"
    ]


def test_engineers_connect_to_their_cluster_with_two_documents_only(everything: Assembly) -> None:
    [statement] = _start_session(everything)
    assert sorted(statement["Resource"]) == sorted(
        [
            CLUSTER,
            f"arn:aws:ssm:{REGION}::document/AWS-StartSSHSession",
            f"arn:aws:ssm:{REGION}:{ACCOUNT}:document/temper-all-authorize-key",
        ]
    )
    # Without this key a session without a document, a shell as root, would be allowed.
    assert statement["Condition"] == {"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}}


def test_engineers_forward_a_port_on_eks_and_start_no_session_without_a_cluster(
    eks: Assembly, dev: Assembly
) -> None:
    [statement] = _start_session(eks)
    forwarding = "document/AWS-StartPortForwardingSessionToRemoteHost"
    assert sorted(statement["Resource"]) == sorted([CLUSTER, f"arn:aws:ssm:{REGION}::{forwarding}"])
    assert statement["Condition"] == {"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}}
    assert _start_session(dev) == []


def test_the_document_is_published(everything: Assembly) -> None:
    [document] = everything.of_type("AWS::SSM::Document")
    name = document["Properties"]["Name"]
    values = {
        p["Properties"]["Name"]: p["Properties"]["Value"]
        for p in everything.of_type("AWS::SSM::Parameter")
    }
    assert values["/temper-all/hyperpod/key-document"] == name


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("user", "root; reboot"),
        ("user", "$(reboot)"),
        ("user", "-rf"),
        ("user", "../root"),
        ("keyType", "ssh-dss"),
        ("publicKey", f"{KEY} from=*"),
        ("publicKey", f'{KEY}\ncommand="x"'),
        ("publicKey", "`reboot`"),
        ("owner", "a b"),
        ("owner", "a'b"),
        ("owner", "a\nssh-rsa"),
    ],
)
def test_parameters_cannot_carry_a_command(parameter: str, value: str) -> None:
    pattern = session_document()["parameters"][parameter]["allowedPattern"]
    assert not re.search(pattern, value)


def test_the_document_runs_the_installed_script_with_every_parameter() -> None:
    document = session_document()
    commands = document["properties"]["linux"]["commands"]
    assert commands.startswith(f"{AUTHORIZE_KEY} ")
    assert re.findall(r"\{\{ (\w+) \}\}", commands) == list(document["parameters"])
    usage = (LIFECYCLE / "authorize-key.sh").read_text(encoding="utf-8")
    assert "authorize-key USER KEY_TYPE PUBLIC_KEY OWNER" in usage


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a node with one user, whose home is in a temporary folder."""
    uid = os.getuid() if os.getuid() >= 1000 else 1000
    gid = os.getgid() if os.getgid() >= 1000 else 1000
    (tmp_path / "home").mkdir()
    (tmp_path / "node-type").write_text("login")
    getent = tmp_path / "bin" / "getent"
    getent.parent.mkdir()
    getent.write_text(
        "#!/bin/sh\n"
        f'case "$2" in alice) echo "alice:x:{uid}:{gid}::{tmp_path}/home:/bin/bash" ;;\n'
        f'daemon) echo "daemon:x:1:1::{tmp_path}/home:/bin/sh" ;; *) exit 2 ;; esac\n'
    )
    getent.chmod(0o755)
    return {
        "PATH": f"{getent.parent}:{os.environ['PATH']}",
        "TEMPER_STATE": str(tmp_path),
        "HOME": str(tmp_path / "home"),
    }


def _authorize(node: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LIFECYCLE / "authorize-key.sh"), *arguments],
        env=node,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_key_is_added_once_and_others_are_kept(node: dict[str, str]) -> None:
    file = Path(node["HOME"]) / ".ssh" / "authorized_keys"
    file.parent.mkdir()
    file.write_text("ssh-rsa AAAAold an-older-key")  # without a line break at its end
    for key in (KEY, KEY, OTHER):
        done = _authorize(node, "alice", "ssh-ed25519", key, "alice@laptop")
        assert done.returncode == 0, done.stderr
        assert "temper: authorized alice@laptop as alice" in done.stdout
    assert file.read_text().splitlines() == [
        "ssh-rsa AAAAold an-older-key",
        f"ssh-ed25519 {KEY} alice@laptop",
        f"ssh-ed25519 {OTHER} alice@laptop",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.stat().st_uid >= 1000


@pytest.mark.parametrize(
    ("user", "node_type", "message"),
    [
        ("alice", "compute", "this is a compute node"),
        ("bob", "login", "there is no user bob"),
        ("daemon", "controller", "daemon is a system user"),
    ],
)
def test_a_key_is_refused(node: dict[str, str], user: str, node_type: str, message: str) -> None:
    (Path(node["TEMPER_STATE"]) / "node-type").write_text(node_type)
    done = _authorize(node, user, "ssh-ed25519", KEY, "x")
    assert done.returncode == 1
    assert message in done.stderr
    assert not (Path(node["HOME"]) / ".ssh" / "authorized_keys").exists()
