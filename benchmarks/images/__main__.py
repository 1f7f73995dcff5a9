"""Measure size, build and start time of the images: `make bench-images [BASE_IMAGE=…]`.

Builds both images without cached layers and starts a job in each, alternating. Needs podman and
root.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.images.layers import ROOT, Step, build_uncached, sizes_mib
from benchmarks.images.start import Start, import_s, start_once
from benchmarks.readme_tables import circumstances, table, write_section
from tests.containers.engine import Engine

SHARED = ROOT.parent / "shared"
JOB = SHARED / "contract/jobs/03-sft-csv.yaml"
KINDS = ("gpu", "neuron")
STAGES = ("packages", "code", "final image")
PARTS = ("engine", "entry_point", "first_step")


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.here(Path(scratch))
        os.environ.update(engine.environment)
        base = engine.base()
        images = {kind: f"localhost/temper-{kind}:bench" for kind in KINDS}
        steps = {kind: build_uncached(kind, image, base) for kind, image in images.items()}
        starts: dict[str, list[Start]] = {kind: [] for kind in KINDS}
        imports: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(options.rounds):
            for kind, image in images.items():
                ml = Path(scratch) / f"{kind}-{number}"
                starts[kind].append(start_once(image, JOB, SHARED, ml))
                imports[kind].append(import_s(image))
                print(json.dumps({"kind": kind, **starts[kind][-1].__dict__}), flush=True)
        sizes = {kind: sizes_mib(image, base) for kind, image in images.items()}
    write_section("images", _section(steps, sizes, starts, imports, options.rounds))


def _section(
    steps: dict[str, list[Step]],
    sizes: dict[str, tuple[float, list[float]]],
    starts: dict[str, list[Start]],
    imports: dict[str, list[float]],
    rounds: int,
) -> str:
    return f"""## Container images: size, build and start

Both images on the plain base of `make image-test` (Debian's Python and a CPU build of torch instead
of the AWS base image), built without cached layers but with the packages in uv's cache.
{circumstances()} `make bench-images`.

{_layers(sizes)}

{_builds(steps)}

Time from `podman run` to the end of the first optimizer step of `{JOB.name}` with a complete
`/opt/ml`; medians of {rounds} alternating starts. "Libraries" is the time to import torch,
Transformers, TRL, PEFT, Accelerate and Datasets alone in the same image; the column before it
includes it.

{_starts(starts, imports)}
"""


def _layers(sizes: dict[str, tuple[float, list[float]]]) -> str:
    names = ("base", "packages", "entry point", "code", "version")
    rows = [
        [kind, *(f"{size:,.1f}" for size in (base, *above)), f"{base + sum(above):,.0f}"]
        for kind, (base, above) in sizes.items()
    ]
    return table(["layers, MiB", *names, "total"], rows)


def _builds(steps: dict[str, list[Step]]) -> str:
    rows = []
    for kind, instructions in steps.items():
        by_stage = _by_stage(instructions)
        rows.append([kind, *(f"{by_stage[stage]:.0f}" for stage in STAGES)])
    return table(["build, s", *STAGES], rows)


def _by_stage(steps: Sequence[Step]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    stage = ""
    for step in steps:
        if step.instruction.startswith("FROM "):
            stage = (
                step.instruction.rpartition(" AS ")[2]
                if " AS " in step.instruction
                else "final image"
            )
        seconds[stage] = seconds.get(stage, 0.0) + step.seconds
    return seconds


def _starts(starts: dict[str, list[Start]], imports: dict[str, list[float]]) -> str:
    rows = [
        [
            kind,
            *(f"{median(getattr(s, part) for s in measured):.1f}" for part in PARTS),
            f"{median(imports[kind]):.1f}",
            f"**{median(s.start_up for s in measured):.1f}**",
        ]
        for kind, measured in starts.items()
    ]
    header = ["image", "engine, s", "entry point, s", "to the first step, s", "libraries, s"]
    return table([*header, "start-up, s"], rows)


if __name__ == "__main__":
    main()
