"""Container engine of this machine, which builds and runs images."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.run_commands import ROOT

BASE_SOURCES = ("constraints.txt", "containers/plain/base.sh", "containers/plain/Dockerfile")
# The tag is a digest of what the base is made from: another pin makes another base.
BASE = (
    "localhost/temper-plain-base:"
    + hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in BASE_SOURCES)).hexdigest()[:12]
)


@cache
def why_not() -> str:
    """Return why no image can be built and run here; empty if it can."""
    if os.geteuid() != 0:
        return "building and running images needs root"
    if not (shutil.which("podman") or _docker_answers()):
        return "neither podman nor a docker daemon is available"
    if not _docker_answers() and not _may_have_namespaces():
        return "this machine allows no new namespaces, which podman needs"
    if shutil.which("mmdebstrap") is None and "BASE_IMAGE" not in os.environ:
        return "no base image: install mmdebstrap, or name one in BASE_IMAGE"
    return ""


def _may_have_namespaces() -> bool:
    asked = ["unshare", "--mount", "--pid", "--net", "--fork", "true"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@dataclass
class Engine:
    """Podman or docker.

    Attributes:
        name: Name of the program.
        environment: Environment variables of its commands.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls, folder: Path) -> Engine:
        """Return the engine of this machine; its configuration goes to `folder`."""
        if _docker_answers():
            return cls("docker", {**os.environ})
        # Inside a container there is no systemd, and limits cannot exceed those of this process.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        path = folder / "containers.conf"
        path.write_text(
            "[containers]\n"
            f'default_ulimits = ["nofile={limit}:{limit}", "nproc=32768:32768"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            + ('runtime = "runc"\n' if shutil.which("runc") else "")
        )
        return cls("podman", {**os.environ, "CONTAINERS_CONF": str(path), "ENGINE": "podman"})

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine."""
        return subprocess.run(
            [self.name, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def call(self, *arguments: str, check: bool = True) -> str:
        """Run a command of the engine and return what it printed."""
        done = self.run(*arguments)
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Return whether an image exists on this machine."""
        return self.run("image", "inspect", image).returncode == 0

    def base(self) -> str:
        """Return a base image, and build it from Debian if it does not exist."""
        base = os.environ.get("BASE_IMAGE", BASE)
        # Tests in parallel processes wait for one build.
        with FileLock(Path(tempfile.gettempdir()) / "temper-plain-base.lock"):
            if not self.has(base):
                self._sh("containers/plain/base.sh", base, PYTHON=sys.executable)
        return base

    def build(self, kind: str, image: str, **more: str) -> None:
        """Build an image by `make image`, as users do."""
        arguments = {"KIND": kind, "IMAGE": image, "BASE_IMAGE": self.base(), **more}
        self._sh("make", "--silent", "image", *(f"{k}={v}" for k, v in arguments.items()))

    def _sh(self, *command: str, **variables: str) -> None:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-4000:]}{done.stdout[-2000:]}"

    @contextmanager
    def started(
        self,
        image: str,
        root: Path,
        *,
        name: str,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        command: str = "train",
    ) -> Iterator[Container]:
        """Run a container as SageMaker does, with `/opt/ml` mounted, until the end of the block.

        Args:
            image: Name of the image.
            root: Folder to mount at `/opt/ml`.
            name: Name of the container.
            options: Further options of the engine.
            environment: Environment variables of the container.
            command: Argument that the service passes to the container.
        """
        self.call("rm", "--force", name, check=False)
        variables = {"OMP_NUM_THREADS": "1", **(environment or {})}
        self.call(
            *("run", "--detach", "--name", name, "--volume", f"{root}:/opt/ml", *options),
            *(part for key, value in variables.items() for part in ("--env", f"{key}={value}")),
            *(image, command),
        )
        try:
            yield Container(self, name, root)
        finally:
            self.call("rm", "--force", name, check=False)


@dataclass
class Container:
    """A running container."""

    engine: Engine
    name: str
    root: Path

    def _state(self, what: str) -> str:
        return self.engine.call("inspect", "--format", f"{{{{.State.{what}}}}}", self.name)

    @property
    def running(self) -> bool:
        return self._state("Running") == "true"

    @property
    def log(self) -> str:
        done = self.engine.run("logs", self.name)
        return done.stdout + done.stderr

    def send(self, signal: str) -> None:
        self.engine.call("kill", "--signal", signal, self.name)

    def finish(self, budget_s: float = 300) -> int:
        """Wait for the end and return the exit code.

        Args:
            budget_s: Processor time that it may use.
        """
        work = Work(int(self._state("Pid")), budget_s)
        while self.running:
            if fault := work.fault():
                self.engine.call("kill", self.name, check=False)
                pytest.fail(f"{self.name} did not end: {fault}: {self.log[-2000:]}")
            time.sleep(0.2)
        return int(self._state("ExitCode"))

    def steps(self) -> int:
        """Return the number of steps that the run has taken."""
        path = self.root / "checkpoints/samples.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0

    def wait_for_step(self, step: int, budget_s: float = 300) -> None:
        """Wait until the run has taken a step.

        Args:
            step: Number of the step.
            budget_s: Processor time that the container may use until then.
        """
        work = Work(int(self._state("Pid")), budget_s)
        polls = 0
        while self.steps() < step:
            time.sleep(0.02)
            polls += 1
            if polls % 50 == 0:
                assert self.running, f"{self.name} ended before step {step}: {self.log[-3000:]}"
                fault = work.fault()
                assert not fault, f"{self.name} took no step {step}: {fault}: {self.log}"


class Work:
    """Budget of processor time, which unlike wall time does not depend on the machine's load.

    Args:
        pid: Process id; 0 if it has ended.
        budget_s: Processor time that the process and its children may use from now on.
    """

    WINDOW_S = 120.0
    LEAST_S = 5.0
    """Processor time in a window below which the process is only waiting."""

    def __init__(self, pid: int, budget_s: float):
        self._pid, self._budget_s = pid, budget_s
        self._taken_s = 0.0
        self._began_s = self._window_s = self._measure()
        self._window_at = time.monotonic()

    def fault(self) -> str:
        """Return why it makes no sense to wait any longer; empty if it does."""
        taken_s = self._measure()
        if taken_s - self._began_s > self._budget_s:
            return f"it has worked for {taken_s - self._began_s:.0f} s"
        if time.monotonic() - self._window_at > self.WINDOW_S:
            if taken_s - self._window_s < self.LEAST_S:
                return f"it has only waited for {self.WINDOW_S:.0f} s"
            self._window_s, self._window_at = taken_s, time.monotonic()
        return ""

    def _measure(self) -> float:
        with suppress(psutil.Error):
            first = psutil.Process(self._pid)
            family = [first, *first.children(recursive=True)] if self._pid else []
            # cpu_times includes the time of children that have ended.
            taken_s = sum(sum(process.cpu_times()[:4]) for process in family)
            self._taken_s = max(self._taken_s, taken_s)
        return self._taken_s
