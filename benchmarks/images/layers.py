"""The layers of an image: how large each is, and how long its steps take to build."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (?P<what>.*)")
_MIB = 2**20


@dataclass(frozen=True)
class Step:
    """An instruction of a Dockerfile.

    Attributes:
        what: Its text.
        seconds: From its line to the next one's: to run it and to keep its layer.
    """

    what: str
    seconds: float


def build_anew(kind: str, image: str, base: str) -> list[Step]:
    """Build an image with no layer from before, and return its steps; podman only.

    Raises:
        RuntimeError: It could not be built.
    """
    told = {"KIND": kind, "IMAGE": image, "BASE_IMAGE": base, "FRESH": "1", "ENGINE": "podman"}
    if kind == "neuron":
        told["BUILD_ARGS"] = "NEURON_INDEX="
    process = subprocess.Popen(
        [ROOT / "containers/build.sh"],
        cwd=ROOT,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    begun: list[tuple[str, float]] = []
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if found := _STEP.match(line):
            begun.append((found["what"], time.monotonic()))
    if process.wait() != 0:
        raise RuntimeError(f"{kind}: {''.join(said[-20:])}")
    ends = [moment for _, moment in begun[1:]] + [time.monotonic()]
    return [Step(what, end - at) for (what, at), end in zip(begun, ends, strict=True)]


def sizes_mib(image: str, base: str) -> tuple[float, list[float]]:
    """Return the size of an image's base, and of each layer above it that holds files."""
    above = _history(image)[len(_history(base)) :]
    return sum(_history(base)) / _MIB, [size / _MIB for size in above if size]


def _history(image: str) -> list[int]:
    """Return what every instruction added, oldest first, in bytes."""
    asked = ["podman", "history", "--human=false", "--format", "json", image]
    told = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return [int(layer["size"]) for layer in reversed(told)]
