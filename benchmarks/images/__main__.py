"""What the images weigh, and how soon they train: `make bench-images [BASE_IMAGE=…]`.

Builds both images with no layer from before, and starts a contract job in each, in turn. Needs
podman, and root.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.images.layers import ROOT, Step, build_anew, sizes_mib
from benchmarks.images.start import Start, import_s, start_once
from benchmarks.readme_tables import circumstances, table, write_section
from tests.containers.engine import Engine

SHARED = ROOT.parent / "shared"
JOB = SHARED / "contract/jobs/03-sft-csv.yaml"
KINDS = ("gpu", "neuron")
STAGES = ("packages", "code", "what is shipped")
PARTS = ("engine", "entry_point", "first_step")


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.here(Path(scratch))
        os.environ.update(engine.environment)
        base = engine.base()
        images = {kind: f"localhost/temper-{kind}:bench" for kind in KINDS}
        steps = {kind: build_anew(kind, image, base) for kind, image in images.items()}
        starts: dict[str, list[Start]] = {kind: [] for kind in KINDS}
        imports: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(asked.rounds):
            for kind, image in images.items():
                ml = Path(scratch) / f"{kind}-{number}"
                starts[kind].append(start_once(image, JOB, SHARED, ml))
                imports[kind].append(import_s(image))
                print(json.dumps({"kind": kind, **starts[kind][-1].__dict__}), flush=True)
        sizes = {kind: sizes_mib(image, base) for kind, image in images.items()}
    write_section("images", _section(steps, sizes, starts, imports, asked.rounds))


def _section(
    steps: dict[str, list[Step]],
    sizes: dict[str, tuple[float, list[float]]],
    starts: dict[str, list[Start]],
    imports: dict[str, list[float]],
    rounds: int,
) -> str:
    return f"""## Container images: size, build and start

Both images on the plain base of `make image-test` (Debian's Python and torch for CPUs, in place of
AWS's own), built with no layer from before but with the packages' files in uv's cache.
{circumstances()} `make bench-images`.

{_layers(sizes)}

{_builds(steps)}

From `podman run` to the end of the first optimizer step of `{JOB.name}` under a full `/opt/ml`;
medians of {rounds} starts, in turn. "Libraries" is what importing torch, Transformers, TRL, PEFT,
Accelerate and Datasets takes by itself in the same image; it is a part of the column before it.

{_starts(starts, imports)}
"""


def _layers(sizes: dict[str, tuple[float, list[float]]]) -> str:
    names = ("base", "packages", "entry point", "code", "version")
    rows = [
        [kind, *(f"{size:,.1f}" for size in (base, *above)), f"{base + sum(above):,.0f}"]
        for kind, (base, above) in sizes.items()
    ]
    return table(["layers, MiB", *names, "whole"], rows)


def _builds(steps: dict[str, list[Step]]) -> str:
    rows = []
    for kind, found in steps.items():
        by_stage = _by_stage(found)
        rows.append([kind, *(f"{by_stage[stage]:.0f}" for stage in STAGES)])
    return table(["built in, s", *STAGES], rows)


def _by_stage(steps: Sequence[Step]) -> dict[str, float]:
    found: dict[str, float] = {}
    stage = ""
    for step in steps:
        if step.what.startswith("FROM "):
            stage = step.what.rpartition(" AS ")[2] if " AS " in step.what else "what is shipped"
        found[stage] = found.get(stage, 0.0) + step.seconds
    return found


def _starts(starts: dict[str, list[Start]], imports: dict[str, list[float]]) -> str:
    rows = [
        [
            kind,
            *(f"{median(getattr(s, part) for s in seen):.1f}" for part in PARTS),
            f"{median(imports[kind]):.1f}",
            f"**{median(s.ours for s in seen):.1f}**",
        ]
        for kind, seen in starts.items()
    ]
    header = ["image", "engine, s", "entry point, s", "to the first step, s", "libraries, s"]
    return table([*header, "our start-up, s"], rows)


if __name__ == "__main__":
    main()
