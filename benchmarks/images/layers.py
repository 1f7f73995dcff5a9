"""Layers of an image: their sizes, and the build time of each instruction."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (?P<instruction>.*)")
_MIB = 2**20


@dataclass(frozen=True)
class Step:
    """Build step of a Dockerfile.

    Attributes:
        instruction: The text of the instruction.
        seconds: The time to run it and to store its layer.
    """

    instruction: str
    seconds: float


def build_uncached(kind: str, image: str, base: str) -> list[Step]:
    """Build an image without cached layers and return its steps; needs podman.

    Args:
        kind: `gpu` or `neuron`.
        image: The name of the image.
        base: The base image.

    Raises:
        RuntimeError: The build failed.
    """
    variables = {"KIND": kind, "IMAGE": image, "BASE_IMAGE": base, "FRESH": "1", "ENGINE": "podman"}
    if kind == "neuron":
        variables["BUILD_ARGS"] = "NEURON_INDEX="
    process = subprocess.Popen(
        [ROOT / "containers/build.sh"],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    started: list[tuple[str, float]] = []
    output: list[str] = []
    for line in process.stdout:
        output.append(line)
        if match := _STEP.match(line):
            started.append((match["instruction"], time.monotonic()))
    if process.wait() != 0:
        raise RuntimeError(f"{kind}: {''.join(output[-20:])}")
    ends = [moment for _, moment in started[1:]] + [time.monotonic()]
    return [Step(text, end - start) for (text, start), end in zip(started, ends, strict=True)]


def sizes_mib(image: str, base: str) -> tuple[float, list[float]]:
    """Return the size of an image's base, and of each layer above it that holds files."""
    above = _history(image)[len(_history(base)) :]
    return sum(_history(base)) / _MIB, [size / _MIB for size in above if size]


def _history(image: str) -> list[int]:
    """Return the bytes that each instruction added, oldest first."""
    command = ["podman", "history", "--human=false", "--format", "json", image]
    layers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [int(layer["size"]) for layer in reversed(layers)]
