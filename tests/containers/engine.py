"""Build and run images, with whichever engine is here."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.running import ROOT

BASE = "localhost/temper-plain-base:torch-2.13.0-debian-12"


def why_not() -> str:
    """Return why no image can be built and run here; empty when it can."""
    if os.geteuid() != 0:
        return "building and running images needs root"
    if not (shutil.which("podman") or _docker_answers()):
        return "neither podman nor a docker daemon is here"
    if shutil.which("mmdebstrap") is None and "BASE_IMAGE" not in os.environ:
        return "no base image: install mmdebstrap, or name one in BASE_IMAGE"
    return ""


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@dataclass
class Engine:
    """Podman or docker.

    Attributes:
        name: Of the program.
        environment: It is run in.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls, folder: Path) -> Engine:
        """Return the one of this machine; `folder` takes a configuration of ours."""
        if _docker_answers():
            return cls("docker", {**os.environ})
        # Without systemd, as in a container: no cgroup manager, no limits beyond our own.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        path = folder / "containers.conf"
        path.write_text(
            "[containers]\n"
            f'default_ulimits = ["nofile={most}:{most}", "nproc=32768:32768"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            + ('runtime = "runc"\n' if shutil.which("runc") else "")
        )
        return cls("podman", {**os.environ, "CONTAINERS_CONF": str(path), "ENGINE": "podman"})

    def call(self, *arguments: str, check: bool = True) -> str:
        """Run a command of the engine and return what it printed."""
        done = subprocess.run(
            [self.name, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether an image is here."""
        done = subprocess.run(
            [self.name, "image", "inspect", image],
            env=self.environment,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def base(self) -> str:
        """Return a base image, made from Debian when it is not there yet."""
        base = os.environ.get("BASE_IMAGE", BASE)
        if not self.has(base):
            self._sh("containers/plain/base.sh", base)
        return base

    def build(self, kind: str, image: str, **more: str) -> None:
        """Build an image by the make target that people use."""
        arguments = {"KIND": kind, "IMAGE": image, "BASE_IMAGE": self.base(), **more}
        self._sh("make", "--silent", "image", *(f"{k}={v}" for k, v in arguments.items()))

    def _sh(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-4000:]}{done.stdout[-2000:]}"

    def start(
        self,
        image: str,
        root: Path,
        *arguments: str,
        name: str,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Container:
        """Start a container as SageMaker does: `/opt/ml` mounted, the argument `train`."""
        self.call("rm", "--force", name, check=False)
        variables = {"OMP_NUM_THREADS": "1", **(environment or {})}
        self.call(
            *("run", "--detach", "--name", name, "--volume", f"{root}:/opt/ml", *options),
            *(part for key, value in variables.items() for part in ("--env", f"{key}={value}")),
            image,
            *(arguments or ("train",)),
        )
        return Container(self, name, root)


@dataclass
class Container:
    """A container that was started."""

    engine: Engine
    name: str
    root: Path

    @property
    def running(self) -> bool:
        return self.engine.call("inspect", "--format", "{{.State.Running}}", self.name) == "true"

    @property
    def log(self) -> str:
        done = subprocess.run(
            [self.engine.name, "logs", self.name],
            env=self.engine.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def send(self, signal: str) -> None:
        self.engine.call("kill", "--signal", signal, self.name)

    def finish(self, timeout_s: float = 900) -> int:
        """Wait for the end and return the exit code."""
        until = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() > until:
                self.engine.call("kill", self.name, check=False)
                pytest.fail(f"{self.name} did not end within {timeout_s} s: {self.log[-2000:]}")
            time.sleep(0.2)
        return int(self.engine.call("inspect", "--format", "{{.State.ExitCode}}", self.name))

    def steps(self) -> int:
        """Return how many steps the run has taken."""
        path = self.root / "checkpoints/samples.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0

    def wait_for_step(self, step: int, timeout_s: float = 600) -> None:
        """Return when the run has taken a step."""
        until = time.monotonic() + timeout_s
        while self.steps() < step:
            assert self.running, f"{self.name} ended before step {step}: {self.log[-3000:]}"
            assert time.monotonic() < until, f"no step {step} within {timeout_s} s: {self.log}"
            time.sleep(0.05)
