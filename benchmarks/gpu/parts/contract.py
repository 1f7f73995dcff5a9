"""Jobs of the repository by the command line, unchanged but for their number of steps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu.case import Case, CaseFailedError, Measured
from benchmarks.gpu.runs import ROOT, run_command
from benchmarks.gpu.scale import Scale

_CONTRACT = ROOT.parent / "shared/contract/jobs"
_BASES = ("quickstart",)
"""Jobs whose models the others start from."""
_WITHOUT = ("constitutional", "distill-text")
"""Jobs that train nothing or need a judge; tests/contract runs them."""


def cases(scale: Scale) -> Iterator[Case]:
    """Yield each job of `jobs/`, bases first, then those of `../shared/contract/jobs` if present.

    On a CPU only the base runs: tests/contract runs the others.
    """
    names = sorted(path.stem for path in (ROOT / "jobs").glob("*.yaml"))
    names = [*_BASES, *(name for name in names if name not in (*_BASES, *_WITHOUT))]
    for name in names if scale.on_gpu else _BASES:
        run = partial(_run, scale, ROOT / "jobs" / f"{name}.yaml", scale.home)
        yield Case(f"jobs/{name}", run, is_slow=True)
    if scale.on_gpu:
        for job in sorted(_CONTRACT.glob("[01]*.yaml")):
            run = partial(_run, scale, job, ROOT)
            yield Case(f"contract/{job.stem}", run, is_slow=True)


def _run(scale: Scale, job: Path, cwd: Path, folder: Path) -> Measured:
    """Run a job from `cwd`, which its relative paths refer to."""
    runs = scale.home / "runs"
    options = [] if scale.on_gpu else ["--set", _SHORT]
    run_command([str(job), "--runs", str(runs), *options], cwd)
    latest = (runs / _name(job) / "latest").resolve()
    stages = sorted((latest / "stages").iterdir()) if (latest / "stages").exists() else [latest]
    losses: dict[str, list[float]] = {}
    for stage in stages:
        lines = (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses[stage.name] = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    last = {name: values[-1] for name, values in losses.items() if values}
    measured = {"last_losses": last, "stages": len(stages)}
    if len(last) < len(stages) or not all(map(math.isfinite, last.values())):
        raise CaseFailedError("a stage logged no loss, or one that is not finite", measured)
    if not list((latest / "model").glob("*.safetensors")):
        raise CaseFailedError("no model was saved", measured)
    return measured


_SHORT = (
    "stages.pretrain.train.max_steps=4 stages.answer.train.max_steps=4 "
    "stages.pretrain.data.train.limit=12 stages.answer.data.train.limit=80"
)


def _name(job: Path) -> str:
    import yaml

    return str(yaml.safe_load(job.read_text(encoding="utf-8"))["name"])
