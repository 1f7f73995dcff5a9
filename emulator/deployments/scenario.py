"""Scenario of deployments: register, approve, deploy, swap, roll back, remove, on every target.

Every step of the user is a `temper` command; only the faults are injected into the services.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from emulator.deployments.command_runner import InProcessRunner, Main
from emulator.deployments.leftovers import leftovers
from emulator.deployments.rehearsed_kinds import (
    ADAPTER,
    NAME,
    NOVA,
    RehearsedKind,
    put_requests,
    rehearsed_kinds,
)
from emulator.deployments.serving_platform import publish_serving, register_nova
from emulator.environment import EmulatedEnvironment
from emulator.hosting.fleet import NO_CAPACITY
from emulator.kubernetes.cluster import EmulatedCluster
from launch.errors import LaunchError

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")
STEPS = ("deployed", "swapped", "rolled back", "removed")
_ADDRESS = re.compile(r"^  address: (?:\S+, component )?(\S+)$", re.MULTILINE)
_COLUMNS = re.compile(r"\s{2,}")
_REASON = "rehearsal"
_ROLLED_BACK, _FAILED = 4, 4


@dataclass
class DeploymentResult:
    """Observations of rehearsed deployments.

    Attributes:
        versions: Version that serves, by label and step.
        answers: Answer of the deployment, by label and step.
        seconds: Duration, by label and step.
    """

    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)


class DeploymentScenario:
    """Rehearsal of the deployments of a model.

    Args:
        environment: Emulated environment.
        runs: Folder of the run of each version.
        adapters: Folder of the run of each version of an adapter on the model; none if empty.
        cluster: Cluster of the environment; `hyperpod` is left out without one.
        main: Runs a command line.
        print_line: Prints a line to the user.
        only: Kinds to rehearse; all if empty.
    """

    def __init__(
        self,
        environment: EmulatedEnvironment,
        runs: Sequence[Path],
        main: Main,
        print_line: Callable[[str], None],
        only: Sequence[str] = (),
        adapters: Sequence[Path] = (),
        cluster: EmulatedCluster | None = None,
    ):
        self.environment, self.print_line = environment, print_line
        self._runs = {NAME: dict(zip(VERSIONS, runs, strict=True))}
        if adapters:
            self._runs[ADAPTER] = dict(zip(VERSIONS, adapters, strict=True))
        self.runner = InProcessRunner(environment, main, print_line)
        if cluster is not None:
            environment.variables.update(cluster.variables)
        self.result = DeploymentResult()
        publish_serving(environment)
        requests = put_requests(environment, self._bucket())
        kinds = rehearsed_kinds(requests, cluster)
        known = {*self._runs, NOVA}
        self.kinds = tuple(
            kind for kind in kinds if kind.model in known and (not only or kind.kind in only)
        )
        self._addresses: dict[str, str] = {}

    def run(self) -> DeploymentResult:
        """Run the rehearsal to its end.

        Raises:
            LaunchError: A step had another result than it must have.
        """
        self._heading("a version is registered, approved and deployed to every target")
        self._approve("1.0.0")
        for kind in self.kinds:
            self._step("deployed", kind, "1.0.0", self._deploy)
        self._list("1.0.0")
        self._heading("another version takes its place behind the same names")
        self._approve("1.1.0")
        for kind in self.kinds:
            self._step("swapped", kind, "1.1.0", self._swap)
        self._heading("the next one fails on every target, and the version before serves")
        self._approve("1.2.0")
        for kind in self.kinds:
            self._step("rolled back", kind, "1.1.0", self._roll_back)
        self._list("1.1.0")
        self._heading("everything is removed")
        for kind in sorted(self.kinds, key=lambda kind: kind.model != ADAPTER):
            self._step("removed", kind, "", self._remove)
        self._expect_nothing_left()
        self._summarize()
        return self.result

    # --- steps ------------------------------------------------------------------------------

    def _approve(self, version: str) -> None:
        """Register the run as a version, and approve it; the one before is archived."""
        for name, runs in self._runs.items():
            run, id_ = str(runs[version]), f"{name}@{version}"
            number = ("--name", name, "--version", version, "--override", _REASON)
            self.runner.run("register", run, *number)
            self.runner.run("promote", id_, "production")
        if any(kind.model == NOVA for kind in self.kinds):
            register_nova(self.environment, version)

    def _step(
        self, step: str, kind: RehearsedKind, version: str, act: Callable[[RehearsedKind], str]
    ) -> None:
        """Take a step with a deployment, and observe what serves afterwards."""
        began = time.monotonic()
        output = act(kind)
        if found := _ADDRESS.search(output):
            self._addresses[kind.label] = found[1]
        if version and (kind.stays or step != "rolled back"):
            answer = kind.ask(self.environment, self._addresses[kind.label])
            self.print_line(f"{kind.label} {step}: {kind.model}@{version} answers {answer!r}")
            self.result.answers.setdefault(kind.label, {})[step] = answer
        self.result.versions.setdefault(kind.label, {})[step] = version
        self.result.seconds.setdefault(kind.label, {})[step] = time.monotonic() - began

    def _deploy(self, kind: RehearsedKind, version: str = "1.0.0") -> str:
        where = ("--to", kind.kind, "--name", kind.name)
        return self.runner.run("deploy-model", f"{kind.model}@{version}", *where, *kind.deploy)

    def _swap(self, kind: RehearsedKind) -> str:
        if not kind.stays:  # each batch names its version
            return self._deploy(kind, "1.1.0")
        return self.runner.run("swap", f"{kind.model}@1.1.0", "--name", kind.name, *kind.swap)

    def _roll_back(self, kind: RehearsedKind) -> str:
        self.print_line(kind.plant(self.environment))
        id_ = f"{kind.model}@1.2.0"
        if not kind.stays:
            where = ("--to", kind.kind, "--name", kind.name)
            output = self.runner.run("deploy-model", id_, *where, *kind.deploy, code=_FAILED)
            self._expect(NO_CAPACITY[:40], output)
            return ""
        swap = ("swap", id_, "--name", kind.name, *kind.swap)
        self._expect(f"{kind.model}@1.1.0 serves", self.runner.run(*swap, code=_ROLLED_BACK))
        return ""

    def _remove(self, kind: RehearsedKind) -> str:
        return self.runner.run("undeploy", kind.name)

    # --- observations -----------------------------------------------------------------------

    def _list(self, version: str) -> None:
        """List the deployments, and compare the versions that serve.

        Raises:
            LaunchError: One is not deployed, or serves another version.
        """
        rows = [_COLUMNS.split(line) for line in self.runner.run("deployments").splitlines()]
        found = {row[0]: row[1:4] for row in rows if row[0].startswith(NAME)}
        for kind in self.kinds:
            id_ = f"{kind.model}@{version}"
            allowed = [[kind.kind, state, id_] for state in ("deployed", "rolled back")]
            if kind.stays and found.get(kind.name) not in allowed:
                raise LaunchError(
                    f"{kind.name} is {found.get(kind.name)}, and does not serve {id_}"
                )

    def _expect_nothing_left(self) -> None:
        """Let the removals end, and look for what remains.

        Raises:
            LaunchError: Something does.
        """
        self.environment.advance(300)
        if left := leftovers(self.environment):
            raise LaunchError(f"left behind: {', '.join(left)}")
        self._expect("nothing is deployed", self.runner.run("deployments"))

    def _expect(self, words: str, output: str) -> None:
        if words not in output:
            raise LaunchError(f"the output does not have {words!r}:\n{output}")

    def _heading(self, text: str) -> None:
        self.print_line("")
        self.print_line(f"--- {text}")

    def _summarize(self) -> None:
        """Print how long each step took on this machine."""
        widths = [max(len(kind.label) for kind in self.kinds), *map(len, STEPS)]
        rows: list[tuple[str, ...]] = [("", *STEPS)]
        for kind in self.kinds:
            took = self.result.seconds[kind.label]
            rows.append((kind.label, *(f"{took[step]:.1f} s" for step in STEPS)))
        self.print_line("")
        for first, *others in rows:
            cells = (cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))
            self.print_line("  ".join((first.ljust(widths[0]), *cells)))

    def _bucket(self) -> str:
        """Return the name of the bucket of runs."""
        prefix = self.environment.environment.prefix
        answer = self.environment.client("ssm").get_parameter(Name=f"/{prefix}/buckets/runs")
        return str(answer["Parameter"]["Value"])
