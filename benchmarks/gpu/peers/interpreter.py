"""Interpreters of the peers: where each is, what it has installed, and a run in it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import CaseFailedError, NotInstalledError
from benchmarks.gpu.peers.settings import PeerSettings

ROOT = Path(__file__).parents[3]
LIMIT_S = 140.0
"""Seconds that a run may take: three runs are one part, which ends within 8 minutes."""
_VERSIONS = """
import importlib.metadata as metadata, json, sys
installed = {}
for name in sys.argv[1:]:
    try:
        installed[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(installed))
"""


@dataclass(frozen=True)
class Peer:
    """Another package that trains the same.

    Attributes:
        name: As it calls itself.
        package: Name on PyPI.
        version: Version that its list of wheels has.
        script: Module that trains.
        needs_gpu: It cannot be imported without a GPU.
        weights: Precision of the weights of full fine-tuning.
    """

    name: str
    package: str
    version: str
    script: str
    needs_gpu: bool = False
    weights: str = "fp32, bf16 autocast"

    @property
    def variable(self) -> str:
        """Environment variable that names the interpreter."""
        return f"{self.package.upper()}_PYTHON"

    def interpreter(self, home: Path) -> Path:
        """Return the interpreter: the environment variable's, or `HOME/peers/PACKAGE`'s."""
        return Path(
            os.environ.get(self.variable) or home / "peers" / self.package / "bin" / "python"
        )

    def versions(self, home: Path, *, on_gpu: bool) -> dict[str, str]:
        """Return the versions of the packages in its interpreter.

        Raises:
            NotInstalledError: There is no interpreter, or it lacks the package.
        """
        python = self.interpreter(home)
        what = f"not installed: {self.package} {self.version}"
        if not os.access(python, os.X_OK):
            raise NotInstalledError(
                f"{what}; there is no interpreter {python}. Install it as "
                f"benchmarks/gpu/README.md says, or name one with {self.variable}"
            )
        names = [self.package, "torch", "transformers", "trl", "peft", "torchao"]
        done = subprocess.run(
            [str(python), "-c", _VERSIONS, *names], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotInstalledError(f"{what}; {python} does not run: {done.stderr[-300:]}")
        installed: dict[str, str] = json.loads(done.stdout)
        if self.package not in installed:
            raise NotInstalledError(f"{what} in {python}")
        if self.needs_gpu and not on_gpu:
            raise NotInstalledError(
                f"{self.package} {installed[self.package]} is installed, and can be imported only "
                "with a GPU"
            )
        return installed

    def run(self, settings: PeerSettings, home: Path) -> list[dict[str, Any]]:
        """Train, and return the lines of the file of steps: lengths first.

        Args:
            settings: What to train.
            home: Folder of the benchmark.

        Raises:
            CaseFailedError: It failed, or took longer than `LIMIT_S`; the message has the end of
                its output.
        """
        folder = Path(settings.folder)
        folder.mkdir(parents=True, exist_ok=True)
        given, steps, log = folder / "settings.json", folder / "steps.jsonl", folder / "log.txt"
        given.write_text(json.dumps(asdict(settings)), encoding="utf-8")
        command = [str(self.interpreter(home)), "-m", self.script, str(given), str(steps)]
        try:
            with log.open("w") as file:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env=_environment(settings),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT_S,
                    check=False,
                )
            ended = f"exit code {done.returncode}" if done.returncode else None
        except subprocess.TimeoutExpired:
            ended = f"stopped above the limit of {LIMIT_S:.0f} s"
        if ended:
            output = log.read_text(encoding="utf-8", errors="replace")[-1500:]
            raise CaseFailedError(f"{self.name}: {ended}: {output}", {})
        return [json.loads(line) for line in steps.read_text(encoding="utf-8").splitlines()]


def _environment(settings: PeerSettings) -> dict[str, str]:
    """Return the environment: this package's modules, no network, and caches of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(Path(settings.folder) / "cache"),
        # It would download a file of the Hub to be counted.
        "UNSLOTH_DISABLE_STATISTICS": "1",
    }
    return environment if settings.on_gpu else {**environment, "CUDA_VISIBLE_DEVICES": ""}


PEERS = {
    peer.package: peer
    for peer in (
        Peer(
            "torchtune",
            "torchtune",
            "0.6.1",
            "benchmarks.gpu.peers.torchtune_recipe",
            weights="bf16",
        ),
        Peer("LLaMA-Factory", "llamafactory", "0.9.5", "benchmarks.gpu.peers.llamafactory_run"),
        Peer(
            "Unsloth",
            "unsloth",
            "2026.10.9",
            "benchmarks.gpu.peers.unsloth_script",
            needs_gpu=True,
        ),
    )
}
"""Peers by package, which is also the group of the part `speed`."""
