"""Commands that prepare data: prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.errors import InvalidOptionError
from temper.cli.extras import require
from temper.cli.options import RUNS, JobArgument, RunsOption, SetOption, overrides

_TARGETS = ("local", "slurm")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("prepare")(_prepare)


def _prepare(
    job: JobArgument,
    target: Annotated[str, typer.Option(help="local or slurm.")] = "local",
    nodes: Annotated[int, typer.Option(help="Number of nodes of the target slurm.")] = 1,
    set_: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: resume nothing.")] = False,
    runs: RunsOption = RUNS,
) -> int:
    """Prepare clean training data from raw files.

    The job runs here or on a target; the same command resumes an interrupted preparation.
    """
    require("prepare")
    _check_options(target, nodes)
    if target == "slurm":
        return _submit(job, overrides(set_), nodes=nodes, fresh=fresh, runs=runs)
    from preparation.command import prepare

    return prepare(job, overrides(set_), fresh=fresh)


def _check_options(target: str, nodes: int) -> None:
    """Check the options of `temper prepare`.

    Raises:
        InvalidOptionError: The target does not exist, or starts no nodes.
    """
    if target not in _TARGETS:
        raise InvalidOptionError(f"--target {target}: a preparation runs on {', '.join(_TARGETS)}")
    if nodes != 1 and target != "slurm":
        raise InvalidOptionError(f"--nodes {nodes}: only the target slurm starts nodes")


def _submit(job: Path, overrides_: str, *, nodes: int, fresh: bool, runs: Path) -> int:
    """Queue a preparation in Slurm.

    Args:
        job: The job file.
        overrides_: `key=value` pairs.
        nodes: Number of nodes.
        fresh: Start over, which a queued job cannot do.
        runs: The folder of run folders.

    Raises:
        InvalidOptionError: The options exclude each other.
    """
    import yaml

    from launch.submit_preparation import PreparationRequest, submit_preparation
    from launch.targets.slurm import from_environment
    from preparation.config.load import load_preparation
    from training.console import say

    if fresh:
        raise InvalidOptionError("--fresh: not with the target slurm; delete the result instead")
    loaded = load_preparation(job, overrides_)
    if loaded.synthesize is not None and nodes > 1:
        raise InvalidOptionError(
            f"--nodes {nodes}: a synthesis runs on one machine. Run it first, then "
            "name its data/rows.jsonl in prepare.sources"
        )
    document = yaml.safe_dump(
        loaded.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True
    )
    request = PreparationRequest(loaded.name, document, nodes, runs)
    submission, queued = submit_preparation(request, from_environment(None))
    run = submission.run
    say(f"run {run}, job {submission.latest.name}{'' if queued else ', queued already'}")
    say(f"temper logs {run} follows it; temper status shows it; temper stop {run} stops it")
    return 0
