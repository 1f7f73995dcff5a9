"""Client of a Kubernetes cluster that runs kubectl, and so uses the credentials it has."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import urlsplit

from launch.errors import LaunchError

_TIMEOUT_S = 60
_NO = "the answer is no"
_CONNECT = "temper connect --env ENVIRONMENT"


class Kubectl:
    """Client of one namespace of one cluster.

    Args:
        namespace: Namespace of the jobs; empty for objects of several namespaces, which kubectl
            refuses to apply with one.
        context: Context of kubectl's configuration; empty for the current one.
        kubeconfig: Configuration file; empty for the user's own.
    """

    def __init__(self, namespace: str, context: str = "", kubeconfig: str = ""):
        self.namespace = namespace
        self._base = ["kubectl", *(["--kubeconfig", kubeconfig] if kubeconfig else ())]
        self._base += ["--context", context] if context else []

    def in_namespace(self, namespace: str) -> Self:
        """Return a client of another namespace of the same cluster."""
        if namespace == self.namespace:
            return self
        other = copy.copy(self)
        other.namespace = namespace
        return other

    @property
    def _command(self) -> list[str]:
        return [*self._base, *(["--namespace", self.namespace] if self.namespace else ())]

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
        if done.returncode and done.stdout.strip() == "no":
            raise LaunchError(f"kubectl {arguments[0]}: {_NO}")
        if done.returncode:
            raise LaunchError(f"kubectl {arguments[0]}: {_explain(done.stderr)}")
        return done.stdout

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None if it does not exist."""
        output = self.run("get", kind, name, "--ignore-not-found", "--output=json")
        found: dict[str, Any] | None = json.loads(output) if output.strip() else None
        return found

    def server(self) -> str:
        """Return the host name that the API server of the selected context must prove to have.

        Raises:
            LaunchError: kubectl has no context.
        """
        text = self.run("config", "view", "--minify", "--output=json")
        clusters = json.loads(text).get("clusters") or [{}]
        cluster = clusters[0].get("cluster", {})
        name = cluster.get("tls-server-name") or urlsplit(cluster.get("server", "")).netloc
        return str(name).partition(":")[0]

    def allows(self, verb: str, resource: str) -> bool:
        """Return whether the caller may do something in the namespace, as the cluster says.

        Args:
            verb: Verb of the Kubernetes API.
            resource: Kind in the plural with its API group, and a subresource after a slash.

        Raises:
            LaunchError: The cluster could not be asked.
        """
        kind, _, subresource = resource.partition("/")
        detail = [f"--subresource={subresource}"] if subresource else []
        try:
            answer = self.run("auth", "can-i", verb, kind, *detail)
        except LaunchError as error:
            # kubectl exits with 1 both for "no", which it writes to its output, and for errors.
            if str(error).endswith(_NO):
                return False
            raise
        return answer.split()[:1] == ["yes"]

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
    if "nauthorized" in text or "must be logged in" in text:
        return f"{text}. Sign in to AWS, then: {_CONNECT}"
    if "orbidden" in text:
        return (
            f"{text}. Use the environment's engineer role; an administrator grants it what jobs "
            "need with `temper cluster-setup --env ENVIRONMENT`"
        )
    if "refused" in text or "no such host" in text or "dial tcp" in text:
        return f"{text}. Open a connection, and leave it open: {_CONNECT}"
    return text
