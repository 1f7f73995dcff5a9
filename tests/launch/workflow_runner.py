"""Runner of the jobs of a workflow file: its shell steps run in a checkout of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.run_commands import ROOT

_EXPRESSION = re.compile(r"\$\{\{ *(.+?) *\}\}")
_CREDENTIALS = "aws-actions/configure-aws-credentials"
_TIME_LIMIT_S = 600


def checkout(folder: Path) -> Path:
    """Copy the files of this repository to a folder, with a link to the installed packages.

    The files are old, so that make takes the packages for installed.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, to = ROOT / name, folder / name
        if source.is_file() and not source.is_symlink():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)
            os.utime(to, (0, 0))
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    return folder


@dataclass
class JobRunner:
    """Runner of one job.

    Attributes:
        folder: The checkout.
        contexts: Values of expressions, such as `inputs` and `vars`.
        account: Environment variables that lead to an account, once a step has its credentials.
        roles: Roles that were assumed, with their Region.
        output: Output of the steps so far.
    """

    folder: Path
    contexts: dict[str, Mapping[str, Any]]
    account: Mapping[str, str] = field(default_factory=dict)
    roles: list[tuple[str, str]] = field(default_factory=list)
    output: str = ""

    def run(self, job: Mapping[str, Any]) -> str:
        """Run the steps of a job, and return their output."""
        variables = {key: self.evaluate(value) for key, value in job.get("env", {}).items()}
        outputs: dict[str, dict[str, dict[str, str]]] = {}
        self.contexts["steps"] = outputs
        for number, step in enumerate(job["steps"]):
            if step.get("uses", "").startswith(_CREDENTIALS):
                options = {key: self.evaluate(value) for key, value in step["with"].items()}
                self.roles.append((options["role-to-assume"], options["aws-region"]))
                variables |= self.account
            elif "run" in step:
                file = self.folder / f".output-{number}"
                self.shell(step["run"], {**variables, "GITHUB_OUTPUT": str(file)})
                text = file.read_text() if file.exists() else ""
                pairs = (line.partition("=") for line in text.splitlines())
                outputs[step.get("id", str(number))] = {
                    "outputs": {key: value for key, _, value in pairs}
                }
        return self.output

    def shell(self, command: str, variables: Mapping[str, str]) -> None:
        """Run a command with these variables alone, as a runner does.

        Args:
            command: The command.
            variables: Environment variables.
        """
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
        self.output += done.stdout
        assert done.returncode == 0, f"{command}\n{done.stdout}"

    def evaluate(self, text: str) -> str:
        """Return a text in which expressions are replaced by their values."""
        return _EXPRESSION.sub(lambda found: self._value(found[1]), str(text))

    def _value(self, expression: str) -> str:
        value: Any = self.contexts
        for name in expression.split("."):
            value = value[name]
        return str(value)
