"""`adapter.r: auto`: short runs at several ranks, and the smallest that does as well as any.

Each rank is trained for a few steps in a run of its own (`ranks/`), all on the same rows in the
same order. Kept is the smallest whose held-out loss is within a margin of the least.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from training.config import Job
from training.config.adapters import Lora
from training.console import say
from training.run_folder import RunFolder, write_whole

_CHOSEN = "rank.json"


def wants_rank(job: Job) -> bool:
    """Whether a job leaves its rank to be found."""
    return isinstance(job.adapter, Lora) and job.adapter.rank_search is not None


def with_rank(job: Job, r: int) -> Job:
    """Return a job with its rank settled; an update counts the same at any rank."""
    adapter = job.adapter
    assert isinstance(adapter, Lora)
    alpha = adapter.alpha * r / adapter.r
    settled = adapter.model_copy(update={"r": r, "alpha": alpha, "rank_search": None})
    return job.model_copy(update={"adapter": settled})


def settled(job: Job, folder: Path) -> Job:
    """Return a job with the rank that was found for it, if it wanted one."""
    if not wants_rank(job):
        return job
    return with_rank(job, int(json.loads((folder / _CHOSEN).read_text())["r"]))


def find_rank(job: Job, folder: RunFolder, train: Callable[[Job, Path], None]) -> None:
    """Try each rank, unless that was done, and write down which is kept.

    Args:
        job: Wants a rank.
        folder: Of the run; what was found is kept there.
        train: Trains a job in a folder.
    """
    chosen = folder.path / _CHOSEN
    if chosen.exists():
        return
    assert isinstance(job.adapter, Lora) and job.adapter.rank_search is not None
    search = job.adapter.rank_search
    losses = {}
    for r in search.ranks:
        trial = _trial(with_rank(job, r), search.steps, r)
        path = folder.path / "ranks" / f"r{r}"
        if RunFolder(path).state != "finished":
            train(trial, path)
        evaluation = json.loads((path / "evaluation.json").read_text())
        losses[r] = float(evaluation["after"]["validation"]["loss"])
    r = smallest_within(losses, search.margin)
    for line in table(losses, r, search.steps, search.margin):
        say(line)
    write_whole(chosen, json.dumps({"r": r, "losses": losses}))


def smallest_within(losses: Mapping[int, float], margin: float) -> int:
    """Return the smallest rank whose loss is at most `margin` above the least, relatively."""
    least = min(losses.values())
    return min(r for r, loss in losses.items() if loss <= least * (1 + margin))


def table(losses: Mapping[int, float], kept: int, steps: int, margin: float) -> list[str]:
    """Return what was found, for people."""
    lines = [f"held-out loss after {steps} steps, by rank:"]
    lines += [f"  r {r:>3}  {loss:.4f}{'  kept' * (r == kept)}" for r, loss in losses.items()]
    return [*lines, f"r {kept} is the smallest within {margin:.1%} of the least"]


def _trial(job: Job, steps: int, r: int) -> Job:
    document = job.model_dump(mode="json", exclude_none=True)
    document["train"].pop("num_train_epochs", None)
    document["train"]["max_steps"] = steps
    document["evaluate"] = {}
    document["tracking"] = {"mlflow": False}
    document["name"] = f"{job.name}-r{r}"[:63].rstrip("-")
    return Job.model_validate(document)
