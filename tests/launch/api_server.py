"""A real Kubernetes API server for tests, from binaries that the machine has.

`TEST_ASSET_KUBE_APISERVER` and `TEST_ASSET_ETCD` name the binaries, as for the environment tests of
controller-runtime: https://book.kubebuilder.io/reference/envtest. There are no nodes and no
controllers; requests are authenticated, authorized and validated as on every cluster.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOKENS = """admin-token,admin,admin,"system:masters"
engineer-token,engineer,engineer,"temper-engineers"
editor-token,editor,editor,"editors"
"""
SERVER_NAME = "kubernetes.default.svc"
"""Name in the certificate that the server makes for itself."""
_TIMEOUT_S = 60


@dataclass(frozen=True)
class ApiServer:
    """Running API server.

    Attributes:
        port: Port on 127.0.0.1.
        certificate_authority: Certificate of the server, in base64.
    """

    port: int
    certificate_authority: str


def missing_binary() -> str:
    """Return why no API server can be started here; empty if it can."""
    for variable in ("TEST_ASSET_KUBE_APISERVER", "TEST_ASSET_ETCD"):
        path = os.environ.get(variable, "")
        if not path or not Path(path).is_file():
            return f"{variable} names no binary"
    return "" if shutil.which("kubectl") else "kubectl is not installed"


@contextmanager
def run_api_server(folder: Path) -> Iterator[ApiServer]:
    """Start etcd and an API server with RBAC, and stop both at the end."""
    etcd_port, peer_port, port = (_free_port() for _ in range(3))
    key = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    tokens = folder / "tokens.csv"
    tokens.write_text(TOKENS, encoding="utf-8")
    peers = f"http://127.0.0.1:{peer_port}"
    etcd = [
        os.environ["TEST_ASSET_ETCD"],
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]
    server = [
        os.environ["TEST_ASSET_KUBE_APISERVER"],
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.99.0.0/24",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--disable-admission-plugins=ServiceAccount",
    ]
    with (folder / "log").open("wb") as log:
        processes = [
            subprocess.Popen(command, stdout=log, stderr=log) for command in (etcd, server)
        ]
        try:
            certificate = folder / "certificates" / "apiserver.crt"
            _wait_until_ready(port, certificate, folder / "log")
            encoded = base64.b64encode(certificate.read_bytes()).decode()
            yield ApiServer(port, encoded)
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(port: int, certificate: Path, log: Path) -> None:
    command = ["kubectl", f"--server=https://127.0.0.1:{port}", "--token=admin-token"]
    command += [f"--tls-server-name={SERVER_NAME}", f"--certificate-authority={certificate}"]
    ends = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < ends:
        done = subprocess.run(
            [*command, "get", "namespace", "default"], capture_output=True, check=False
        )
        if done.returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(f"the API server did not start: {log.read_text(errors='replace')[-2000:]}")
