"""Search for the LoRA rank of `adapter.r: auto`, by short runs.

Each rank is trained for a few steps in its own run folder (`ranks/`), on the same rows in the same
order. The smallest rank whose held-out loss is within a margin of the lowest is chosen.
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
    """Return True if the rank of a job is to be searched."""
    return isinstance(job.adapter, Lora) and job.adapter.rank_search is not None


def with_rank(job: Job, r: int) -> Job:
    """Return a job with a fixed rank; alpha changes with it, so that alpha / r stays the same."""
    adapter = job.adapter
    assert isinstance(adapter, Lora)
    alpha = adapter.alpha * r / adapter.r
    fixed = adapter.model_copy(update={"r": r, "alpha": alpha, "rank_search": None})
    return job.model_copy(update={"adapter": fixed})


def settled(job: Job, folder: Path) -> Job:
    """Return a job with the rank that the search chose, if it has a search."""
    if not wants_rank(job):
        return job
    return with_rank(job, int(json.loads((folder / _CHOSEN).read_text())["r"]))


def find_rank(job: Job, folder: RunFolder, train: Callable[[Job, Path], None]) -> None:
    """Train with each rank, unless that was done before, and write the choice to the run folder.

    Args:
        job: Job whose rank is to be searched.
        folder: Run folder, which stores the result.
        train: Function that trains a job in a folder.
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
    """Return the smallest rank whose loss is within a relative `margin` of the lowest."""
    lowest = min(losses.values())
    return min(r for r, loss in losses.items() if loss <= lowest * (1 + margin))


def table(losses: Mapping[int, float], kept: int, steps: int, margin: float) -> list[str]:
    """Return the result as lines for the terminal.

    Args:
        losses: Held-out loss by rank.
        kept: Chosen rank.
        steps: Optimizer steps of each trial.
        margin: Relative margin of the choice.
    """
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
