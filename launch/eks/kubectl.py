"""Asking a Kubernetes cluster, by the command line with which its users are signed in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from launch.errors import LaunchError

_TIMEOUT_S = 60


class Kubectl:
    """One namespace of one cluster.

    Args:
        namespace: Where jobs are.
        context: Of kubectl's configuration; the current one when empty.
    """

    def __init__(self, namespace: str, context: str = ""):
        self._start = ["kubectl", *(["--context", context] if context else ())]
        self._start += ["--namespace", namespace]

    def run(self, *arguments: str, feed: str = "") -> str:
        """Run a command and return what it printed.

        Raises:
            LaunchError: With what the cluster says, or that it cannot be reached.
        """
        try:
            done = subprocess.run(
                [*self._start, *arguments],
                input=feed,
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
            raise LaunchError(f"kubectl {arguments[0]}: {_meaning(done.stderr)}")
        return done.stdout

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None where there is none of this name."""
        said = self.run("get", kind, name, "--ignore-not-found", "--output=json")
        found: dict[str, Any] | None = json.loads(said) if said.strip() else None
        return found

    def stream(self, *arguments: str) -> Iterator[str]:
        """Yield the lines of a command as they come."""
        process = subprocess.Popen(
            [*self._start, *arguments],
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


def _meaning(said: str) -> str:
    text = " ".join(said.split()) or "failed without a word"
    if "no matches for kind" in text:
        return f"{text}. Install Kubeflow's training operator; HyperPod's chart has it"
    if "nauthorized" in text or "Forbidden" in text or "forbidden" in text:
        return f"{text}. Sign in: aws eks update-kubeconfig --name CLUSTER"
    if "refused" in text or "no such host" in text or "dial tcp" in text:
        return f"{text}. Choose the cluster: aws eks update-kubeconfig --name CLUSTER"
    return text
