"""Client of a Kubernetes cluster that runs kubectl, and so uses the credentials it has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from launch.errors import LaunchError

_TIMEOUT_S = 60


class Kubectl:
    """Client of one namespace of one cluster.

    Args:
        namespace: Namespace of the jobs.
        context: Context of kubectl's configuration; empty for the current one.
    """

    def __init__(self, namespace: str, context: str = ""):
        self._command = ["kubectl", *(["--context", context] if context else ())]
        self._command += ["--namespace", namespace]

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Execute a kubectl command and return its output.

        Raises:
            LaunchError: kubectl is missing or failed, or the cluster cannot be reached.
        """
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise LaunchError(
                "kubectl is not installed on this machine: https://kubernetes.io/docs/tasks/tools"
            ) from None
        except subprocess.TimeoutExpired:
            raise LaunchError(f"the cluster did not answer within {_TIMEOUT_S} s") from None
        if done.returncode:
            raise LaunchError(f"kubectl {arguments[0]}: {_explain(done.stderr)}")
        return done.stdout

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None if it does not exist."""
        output = self.run("get", kind, name, "--ignore-not-found", "--output=json")
        found: dict[str, Any] | None = json.loads(output) if output.strip() else None
        return found

    def stream(self, *arguments: str) -> Iterator[str]:
        """Execute a kubectl command and yield the lines of its output while they arrive."""
        process = subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield line.rstrip("\n")
        finally:
            process.kill()
            process.wait()


def _explain(stderr: str) -> str:
    text = " ".join(stderr.split()) or "failed without a message"
    if "no matches for kind" in text:
        return f"{text}. Install Kubeflow's training operator; HyperPod's chart has it"
    if "nauthorized" in text or "Forbidden" in text or "forbidden" in text:
        return f"{text}. Sign in: aws eks update-kubeconfig --name CLUSTER"
    if "refused" in text or "no such host" in text or "dial tcp" in text:
        return f"{text}. Choose the cluster: aws eks update-kubeconfig --name CLUSTER"
    return text
