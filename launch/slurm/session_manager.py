"""Access to a HyperPod node through Session Manager: ssh without an open port or a shared key.

Session Manager authenticates the person (IAM) and the node, and encrypts the connection; ssh in it
transports files and commands. The node knows each person by their own public key, which the
environment's session document adds (`stacks/constructs/node_access.py`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from launch.aws.hyperpod_nodes import ClusterNode
from launch.errors import LaunchError

DEFAULT_USER = "ubuntu"
"""User of HyperPod's AMI, which exists on every node."""
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-rsa")
_KEY_FILES = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,4000}={0,2}")
_AUTHORIZED = "temper: authorized"
"""First words of what the node prints once the key is in place."""
_TIMEOUT_S = 120


@dataclass(frozen=True)
class PublicKey:
    """One person's public key.

    Attributes:
        path: File that it was read from.
        key_type: Algorithm, the first word of the file.
        blob: Key in base64, the second word.
        owner: Comment of the key, with all characters but letters, digits and `@._-` replaced.
    """

    path: Path
    key_type: str
    blob: str
    owner: str

    @property
    def identity_file(self) -> Path:
        """Private key next to it, or the public key itself if an agent holds the private one."""
        private = self.path.with_suffix("")
        return private if private.exists() else self.path


@dataclass(frozen=True)
class NodeConnection:
    """Connection of ssh to one node of an environment.

    Attributes:
        prefix: Prefix of the environment, the host name for ssh.
        region: Region of the cluster.
        node: The node.
        user: User on the node.
        identity_file: Private key; None for those that ssh tries by itself.
    """

    prefix: str
    region: str
    node: ClusterNode
    user: str = DEFAULT_USER
    identity_file: Path | None = None

    @property
    def options(self) -> dict[str, str]:
        """Options of ssh.

        Each instance has its own host key, which is accepted at the first connection, because
        Session Manager has authenticated the instance. The keys are kept in a file of ours.
        """
        profile = os.environ.get("AWS_PROFILE", "")
        proxy = [
            *("aws ssm start-session --target", self.node.session_target),
            *("--region", self.region),
            *(("--profile", profile) if profile else ()),
            "--document-name AWS-StartSSHSession --parameters portNumber=%p",
        ]
        options = {
            "HostName": self.node.name,
            "HostKeyAlias": self.node.name,
            "User": self.user,
            "ProxyCommand": " ".join(proxy),
            "UserKnownHostsFile": str(known_hosts()),
            "StrictHostKeyChecking": "accept-new",
        }
        if self.identity_file:
            options["IdentityFile"] = str(self.identity_file)
        return options


def ssh_folder() -> Path:
    """Return the folder of ssh configurations and host keys that Temper writes."""
    return Path.home() / ".ssh" / "temper"


def known_hosts() -> Path:
    """Return the file of the host keys of HyperPod nodes."""
    return ssh_folder() / "known_hosts"


def ssh_config(prefix: str) -> Path:
    """Return the ssh configuration of an environment, which `temper connect` writes."""
    return ssh_folder() / f"{prefix}.conf"


def read_public_key(given: str) -> PublicKey:
    """Return the public key of the person who connects.

    Args:
        given: Path of the file; empty for the first of ssh's usual files that exists.

    Raises:
        LaunchError: There is no such file, or it holds no public key.
    """
    usual = [Path.home() / ".ssh" / name for name in _KEY_FILES]
    path = Path(given).expanduser() if given else next((p for p in usual if p.is_file()), None)
    if path is None:
        raise LaunchError(
            "~/.ssh has no public key (id_ed25519.pub, id_ecdsa.pub or id_rsa.pub). Create one: "
            "ssh-keygen -t ed25519; or name another: --key FILE"
        )
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"--key {path}: {error}") from None
    key_type, _, rest = text.partition(" ")
    blob, _, comment = rest.strip().partition(" ")
    if "PRIVATE KEY" in text:
        raise LaunchError(f"--key {path} is a private key; name the public one: {path}.pub")
    if "\n" in text or key_type not in KEY_TYPES or not _BASE64.fullmatch(blob):
        raise LaunchError(
            f"--key {path}: {text[:40]!r} is no public key of one of the types "
            f"{', '.join(KEY_TYPES)}. Create one: ssh-keygen -t ed25519"
        )
    owner = re.sub(r"[^A-Za-z0-9@._-]+", "-", comment.strip())[:64].strip("-") or "unnamed"
    return PublicKey(path, key_type, blob, owner)


def require_programs() -> None:
    """Raise if this machine lacks a program of the connection.

    Raises:
        LaunchError: A program is missing; the message says where to get each.
    """
    sources = {
        "ssh": "the package openssh-client",
        "aws": "docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
        "session-manager-plugin": "docs.aws.amazon.com/systems-manager/latest/userguide/"
        "session-manager-working-with-install-plugin.html",
    }
    missing = [f"{name} ({source})" for name, source in sources.items() if not shutil.which(name)]
    if missing:
        raise LaunchError(f"this machine lacks {', '.join(missing)}; install it and try again")


def authorize_key(connection: NodeConnection, key: PublicKey, document: str) -> None:
    """Add a public key to the authorized keys of the connection's user on its node.

    Args:
        connection: Node and user.
        key: Public key.
        document: Name of the session document, the only one besides ssh that engineers may run.

    Raises:
        LaunchError: Session Manager or the node refused.
    """
    parameters = {
        "user": [connection.user],
        "keyType": [key.key_type],
        "publicKey": [key.blob],
        "owner": [key.owner],
    }
    command = [
        *("aws", "ssm", "start-session", "--target", connection.node.session_target),
        *("--region", connection.region, "--document-name", document),
        *("--parameters", json.dumps(parameters)),
    ]
    try:
        # With a terminal as its input, the plugin would write to it instead of to our pipe.
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LaunchError(
            f"{connection.node.name} did not answer within {_TIMEOUT_S} s; try again"
        ) from None
    output = done.stdout.decode(errors="replace").strip()
    # The plugin's exit code does not tell whether the command on the node succeeded.
    if _AUTHORIZED not in output:
        last = output.splitlines()[-1] if output else f"exit code {done.returncode}"
        raise LaunchError(
            f"{connection.node.name} did not accept the key: {last}. If the node has no "
            "/opt/temper/bin/authorize-key, its lifecycle script failed: its log is in the group "
            "/aws/sagemaker/Clusters/…, stream LifecycleConfig/…"
        )


def write_ssh_config(connection: NodeConnection) -> Path:
    """Write the ssh configuration of an environment, and return its path.

    The host key of the node is forgotten: patching replaces the root volume, and with it the key.
    """
    folder = ssh_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if known_hosts().is_file():
        subprocess.run(
            ["ssh-keygen", "-q", "-R", connection.node.name, "-f", str(known_hosts())],
            capture_output=True,
            check=False,
        )
    path = ssh_config(connection.prefix)
    lines = [
        "# Written by `temper connect`; changes are overwritten.",
        f"Host {connection.prefix}",
        *(f"    {name} {value}" for name, value in connection.options.items()),
        "    IdentitiesOnly yes",
        "    ServerAliveInterval 15",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def chosen_identity(prefix: str) -> tuple[str, Path | None]:
    """Return the user and the private key that `temper connect` last set up for an environment."""
    values: dict[str, str] = {}
    try:
        for line in ssh_config(prefix).read_text(encoding="utf-8").splitlines():
            name, _, value = line.strip().partition(" ")
            values[name] = value
    except OSError:
        return DEFAULT_USER, None
    identity = values.get("IdentityFile")
    return values.get("User", DEFAULT_USER), Path(identity) if identity else None
